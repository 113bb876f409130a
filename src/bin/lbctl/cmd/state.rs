//! `lbctl down`, `save`

use std::io;
use std::io::BufRead as _;
use std::io::IsTerminal as _;
use std::io::Read as _;
use std::io::Write as _;

use l4lb::Balancer;
use l4lb::Config;
use l4lb::Instance;
use l4lb::agent::Secrets;
use l4lb::serving::Part;
use serde_json::json;

use crate::Exit;
use crate::Result;
use crate::output;

pub(crate) fn down(instance: &Instance, yes: bool, json: bool) -> Result {
    // Scripts are not asked.
    if !yes && io::stdin().is_terminal() && !consents(instance)? {
        output::complain("nothing was changed");
        return Ok(Exit::Failed);
    }
    let was_running = Balancer::down(instance)?;
    // It would surprise who believes that all has ended.
    if let Ok(Some(serve)) = l4lb::serving::server(instance, &Part::Balancer) {
        tracing::warn!(
            "{} still runs: its next reload or start sets instance '{name}' up again; \
             'systemctl disable --now l4lb@{name}' ends it, also after a reboot",
            serve.process,
            name = instance.name()
        );
    }
    if json {
        output::json(&json!({ "was_running": was_running }))?;
    } else if !was_running {
        output::line(format!("instance '{}' was not running", instance.name()))?;
    }
    Ok(Exit::Done)
}

/// Asks whether the balancer is to be taken down, if it runs.
fn consents(instance: &Instance) -> Result<bool> {
    let Ok(running) = Balancer::open(instance).and_then(|balancer| balancer.save()) else {
        return Ok(true);
    };
    let vips = match running.vips.len() {
        1 => "1 VIP".to_owned(),
        vips => format!("{vips} VIPs"),
    };
    let name = instance.name();
    write!(
        io::stderr(),
        "take instance '{name}' down? Packets for {vips} are no longer balanced [y/N] "
    )?;
    let mut answer = String::new();
    io::stdin().lock().take(1024).read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// What runs, as whoever asks may see it.
pub(super) fn config(balancer: &Balancer, secrets: Secrets) -> Result<Config> {
    let mut config = balancer.save()?;
    if secrets == Secrets::Hidden {
        config.hide_secrets();
    }
    Ok(config)
}

pub(crate) fn save(instance: &Instance, secrets: Secrets, json: bool) -> Result {
    let config = config(&Balancer::open(instance)?, secrets)?;
    if json {
        output::json(&config)?;
    } else {
        output::text(config.to_toml()?)?;
    }
    Ok(Exit::Done)
}
