//! `lbctl down`, `save`

use l4lb::Balancer;
use l4lb::Instance;

use crate::Exit;
use crate::Result;
use crate::output;

pub(crate) fn down(instance: &Instance) -> Result {
    if !Balancer::down(instance)? {
        output::line(format!("instance '{}' was not running", instance.name()))?;
    }
    Ok(Exit::Done)
}

pub(crate) fn save(instance: &Instance, json: bool) -> Result {
    let config = Balancer::open(instance)?.save()?;
    if json {
        output::json(&config)?;
    } else {
        output::text(config.to_toml()?)?;
    }
    Ok(Exit::Done)
}
