//! `lbctl plan`, `lbctl apply`

use l4lb::Balancer;
use l4lb::Config;
use l4lb::Instance;
use l4lb::Plan;

use crate::Exit;
use crate::Result;
use crate::args::ConfigFile;
use crate::output;

fn warn(plan: &Plan) {
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
}

pub(crate) fn plan(instance: &Instance, file: &ConfigFile, json: bool) -> Result {
    let config = Config::from_file(&file.file)?;
    let plan = Balancer::plan(instance, &config)?;
    warn(&plan);
    output::report(&plan, json)?;
    Ok(if plan.is_empty() { Exit::Done } else { Exit::Differences })
}

pub(crate) fn apply(instance: &Instance, file: &ConfigFile, json: bool) -> Result {
    let config = Config::from_file(&file.file)?;
    let plan = Balancer::apply(instance, &config)?;
    warn(&plan);
    output::report(&plan, json)?;
    Ok(Exit::Done)
}
