//! `lbctl vip`

use l4lb::Balancer;
use l4lb::CheckChoice;
use l4lb::Echo;
use l4lb::Health;
use l4lb::Instance;
use l4lb::NoReal;
use l4lb::OtherPorts;
use l4lb::Table;
use l4lb::Vip;
use l4lb::VipSpec;
use l4lb::agent::Secrets;

use crate::Exit;
use crate::Result;
use crate::args::VipArgs;
use crate::cmd::edits;
use crate::output;

pub(crate) fn run(instance: &Instance, args: &VipArgs, secrets: Secrets, json: bool) -> Result {
    let balancer = Balancer::open(instance)?;
    let Some(edits) = edits::of_vips(&args.command) else {
        list(&balancer, secrets, json)?;
        return Ok(Exit::Done);
    };
    let plan = args.dry.edit(&balancer, |table| edits::make_all(&edits, table))?;
    args.dry.report(&plan, json)
}

fn list(balancer: &Balancer, secrets: Secrets, json: bool) -> Result<()> {
    if json {
        output::json(&super::state::config(balancer, secrets)?.vips)?;
        return Ok(());
    }
    let table = balancer.table()?;
    let rows = table.vips.iter().map(|(vip, spec)| {
        let routing: Vec<_> = spec.routing.iter().map(l4lb::config_name).collect();
        [
            vip.to_string(),
            l4lb::config_name(&spec.hash),
            if spec.stateless { "no" } else { "yes" }.to_owned(),
            routing.join(" "),
            l4lb::config_name(&spec.encapsulation.unwrap_or_default()),
            answers(&table, vip, spec),
            spec.health.check.as_ref().map(CheckChoice::to_string).unwrap_or_default(),
            healthy(spec),
            spec.reals.len().to_string(),
        ]
    });
    let header = [
        "VIP",
        "HASH",
        "CONNECTION TABLE",
        "ROUTING",
        "ENCAPSULATION",
        "ANSWERS",
        "CHECK",
        "HEALTHY",
        "REALS",
    ];
    output::table(header, &[7, 8], rows)?;
    Ok(())
}

/// How many of its reals are healthy, if anybody says so.
fn healthy(spec: &VipSpec) -> String {
    let known = |real: &l4lb::RealSpec| real.health.state != Health::Unknown;
    if spec.health.check.is_none() && !spec.reals.values().any(known) {
        return String::new();
    }
    let healthy = spec.reals.values().filter(|real| real.health.state == Health::Healthy).count();
    let open = if spec.fails_open() { " (fail open)" } else { "" };
    format!("{healthy}{open}")
}

/// Settings that differ from the default, even if another VIP of the address has set them.
fn answers(table: &Table, vip: &Vip, spec: &VipSpec) -> String {
    let (other_ports, echo) = (table.other_ports(vip.address), table.echo(vip.address));
    let parts = [
        (other_ports != OtherPorts::default()).then(|| said("other_ports", &other_ports)),
        (spec.no_real != NoReal::default()).then(|| said("no_real", &spec.no_real)),
        (echo != Echo::default()).then(|| said("echo", &echo)),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn said<T: serde::Serialize>(key: &str, choice: &T) -> String {
    format!("{key}={}", l4lb::config_name(choice))
}
