//! `lbctl doctor`

use l4lb::Config;
use l4lb::Instance;
use l4lb::doctor;

use crate::Exit;
use crate::Result;
use crate::args::Doctor;
use crate::output;

pub(crate) fn run(instance: &Instance, args: &Doctor, json: bool) -> Result {
    let report = if args.real {
        doctor::real(instance, &args.vips)
    } else {
        let config = args.file.as_deref().map(Config::from_file).transpose()?;
        doctor::balancer(instance, config.as_ref())
    };
    output::report(&report, json)?;
    Ok(if report.has_errors() { Exit::Failed } else { Exit::Done })
}
