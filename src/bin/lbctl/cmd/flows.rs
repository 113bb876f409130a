//! `lbctl flows`

use std::net::SocketAddr;
use std::time::Duration;

use l4lb::Balancer;
use l4lb::Instance;
use l4lb::flows::AgeOf;
use l4lb::flows::FiveTuple;
use l4lb::flows::Flow;
use l4lb::flows::FlowCounts;
use l4lb::flows::FlowFilter;
use l4lb::flows::FlowGroup;
use l4lb::flows::FlowState;
use l4lb::flows::GroupBy;
use l4lb::flows::MAX_SET_AGE;
use serde_json::json;

use crate::Exit;
use crate::Failure;
use crate::Result;
use crate::args::FlowsCommand;
use crate::args::Selectors;
use crate::args::five_tuple;
use crate::output;

pub(crate) fn run(instance: &Instance, command: &FlowsCommand, json: bool) -> Result {
    match command {
        FlowsCommand::List { selectors } => {
            let balancer = Balancer::open(instance)?;
            list(&balancer, &filter(&balancer, selectors)?, json)?;
        }
        FlowsCommand::Find { packet_to } => {
            let tuple = five_tuple(packet_to)?;
            let FiveTuple { client, destination, .. } = tuple;
            if client.is_ipv4() != destination.is_ipv4() {
                let what = format!("{client} and {destination} are not of the same IP version");
                return Err(Failure::Usage(what));
            }
            return find(instance, &tuple, json);
        }
        FlowsCommand::Delete { selectors, all } => {
            if !all && FlowFilter::from(selectors).is_empty() {
                let what =
                    "say which flows, such as with --vip or --client; --all deletes every one";
                return Err(Failure::Usage(what.to_owned()));
            }
            let balancer = Balancer::open(instance)?;
            let deleted = balancer.delete_flows(&filter(&balancer, selectors)?)?;
            if json {
                output::json(&json!({ "deleted": deleted }))?;
            } else {
                let entries = if deleted == 1 { "entry" } else { "entries" };
                output::line(format!("{deleted} {entries} deleted"))?;
            }
        }
        FlowsCommand::Count { selectors, by } => {
            let balancer = Balancer::open(instance)?;
            let counts = balancer.count_flows(&filter(&balancer, selectors)?, (*by).into())?;
            if json {
                output::json(&counts)?;
            } else {
                print_counts(&counts)?;
            }
        }
    }
    Ok(Exit::Done)
}

fn filter(balancer: &Balancer, selectors: &Selectors) -> Result<FlowFilter> {
    if let Some(age) = selectors.older_than.filter(|age| *age >= MAX_SET_AGE)
        && balancer.flow_ages_are_limited()?
    {
        tracing::warn!(
            "set-associative tables tell ages up to {}: nothing in them is older than {}",
            humantime::format_duration(for_people(MAX_SET_AGE)),
            humantime::format_duration(age)
        );
    }
    Ok(selectors.into())
}

fn list(balancer: &Balancer, filter: &FlowFilter, json: bool) -> Result<()> {
    let flows = balancer.flows(filter)?;
    if json {
        let mut lines = output::JsonLines::new();
        for flow in flows {
            lines.line(&flow?)?;
        }
        lines.finish()?;
    } else {
        let mut table = output::Rows::new(HEADER, &[3]);
        for flow in flows {
            table.row(row(&flow?))?;
        }
        table.finish()?;
    }
    Ok(())
}

fn find(instance: &Instance, tuple: &FiveTuple, json: bool) -> Result {
    let found = Balancer::open(instance)?.find_flow(tuple)?;
    let ring = found.ring.map_or_else(
        || "no real takes new flows".to_owned(),
        |real| format!("the ring says {real}"),
    );
    let FiveTuple { protocol, client, destination } = tuple;
    if found.entries.is_empty() {
        let why = if found.remembered { "" } else { ", which does not remember its flows" };
        let text = format!(
            "no connection table has {protocol} {client} {destination} of VIP {}{why}; {ring}",
            found.vip
        );
        output::error("flow_not_found", &text, json);
        return Ok(Exit::Failed);
    }
    if json {
        let mut lines = output::JsonLines::new();
        for flow in &found.entries {
            lines.line(flow)?;
        }
        lines.finish()?;
        return Ok(Exit::Done);
    }
    let mut table = output::Rows::new(HEADER, &[3]);
    for flow in &found.entries {
        table.row(row(flow))?;
    }
    table.finish()?;
    output::line(format!("({ring}, where there is no live entry)"))?;
    Ok(Exit::Done)
}

const HEADER: [&str; 6] = ["VIP", "CLIENT", "REAL", "CPU", "AGE", "STATE"];

fn row(flow: &Flow) -> [String; 6] {
    let vip = match (&flow.vip, flow.port) {
        (None, _) => "(removed)".to_owned(),
        // A VIP for every port whose hash mode tells ports apart.
        (Some(vip), Some(port)) if vip.port == 0 => format!("{vip} ({port})"),
        (Some(vip), _) => vip.to_string(),
    };
    let client = match (flow.client, flow.client_port) {
        (None, _) => "*".to_owned(),
        (Some(client), Some(port)) => SocketAddr::new(client, port).to_string(),
        (Some(client), None) if client.is_ipv6() => format!("[{client}]:*"),
        (Some(client), None) => format!("{client}:*"),
    };
    let what = match flow.age_of {
        AgeOf::LastPacket => "idle",
        AgeOf::Insert => "old",
    };
    [
        vip,
        client,
        flow.real.map_or_else(|| "-".to_owned(), |real| real.to_string()),
        flow.cpu.map_or_else(|| "shared".to_owned(), |cpu| cpu.to_string()),
        format!("{} {what}", humantime::format_duration(for_people(flow.age))),
        state(flow.state).to_owned(),
    ]
}

fn state(state: FlowState) -> &'static str {
    match state {
        FlowState::Live => "live",
        FlowState::Expired => "stale: expired",
        FlowState::RealRemoved => "stale: real removed",
        FlowState::RealDown => "stale: real down",
        FlowState::VipRemoved => "stale: VIP removed",
        FlowState::Unused => "stale: unused",
        _ => "stale",
    }
}

/// An age to the second; from an hour on, to the minute; from a day on, to the hour.
fn for_people(age: Duration) -> Duration {
    let seconds = age.as_secs();
    let unit = match seconds {
        ..3600 => 1,
        3600..86400 => 60,
        _ => 3600,
    };
    Duration::from_secs(seconds / unit * unit)
}

fn print_counts(counts: &FlowCounts) -> Result<()> {
    let by = match counts.by {
        GroupBy::Vip => "VIP",
        GroupBy::Real => "REAL",
        GroupBy::Cpu => "CPU",
        GroupBy::State => "STATE",
    };
    let row = |name: String, numbers: [u64; 3]| {
        let [entries, live, stale] = numbers.map(|number| number.to_string());
        [name, entries, live, stale]
    };
    let groups = counts.groups.iter().map(|count| {
        let name = match count.group {
            FlowGroup::Vip(Some(vip)) => vip.to_string(),
            FlowGroup::Real(Some(real)) => real.to_string(),
            FlowGroup::Vip(None) | FlowGroup::Real(None) => "(removed)".to_owned(),
            FlowGroup::Cpu(Some(cpu)) => cpu.to_string(),
            FlowGroup::Cpu(None) => "shared".to_owned(),
            FlowGroup::State(of) => state(of).to_owned(),
        };
        row(name, [count.entries, count.live, count.stale])
    });
    let total = row("total".to_owned(), [counts.entries, counts.live, counts.stale]);
    output::table([by, "ENTRIES", "LIVE", "STALE"], &[1, 2, 3], groups.chain([total]))?;
    Ok(())
}
