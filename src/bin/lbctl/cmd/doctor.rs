//! `lbctl doctor`

use l4lb::Instance;
use l4lb::doctor;

use crate::Exit;
use crate::Result;
use crate::args::Doctor;
use crate::args::Source;
use crate::cmd::config_file;
use crate::output;

pub(crate) fn run(instance: &Instance, args: &Doctor, json: bool) -> Result {
    let report = if args.real {
        let ways: Vec<_> = args.ways.iter().map(|way| (*way).into()).collect();
        doctor::real_by(instance, &args.vips, &ways)
    } else {
        let read = |file| config_file::read_source(instance, Source::named(file));
        let config = args.file.as_deref().map(read).transpose()?.map(|(config, _)| config);
        doctor::balancer(instance, config.as_ref())
    };
    output::report(&report, json)?;
    Ok(if report.has_errors() { Exit::Failed } else { Exit::Done })
}
