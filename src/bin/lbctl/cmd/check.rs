//! `lbctl check`: the file alone.

use l4lb::CONFIG_SCHEMA;
use l4lb::Instance;

use crate::Exit;
use crate::Result;
use crate::args::Check;
use crate::cmd::config_file;
use crate::output;

pub(crate) fn run(instance: &Instance, args: &Check, json: bool) -> Result {
    if args.schema {
        output::text(CONFIG_SCHEMA)?;
        return Ok(Exit::Done);
    }
    let report = config_file::check(instance, &args.file)?;
    if json {
        output::json(&report.findings)?;
    } else {
        output::text(&report)?;
    }
    let is_bad = report.errors > 0 || (args.strict && report.warnings > 0);
    Ok(if is_bad { Exit::Failed } else { Exit::Done })
}
