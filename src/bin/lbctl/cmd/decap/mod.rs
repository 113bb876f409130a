//! `lbctl decap`

mod serve;

use l4lb::Instance;
use l4lb::decap;
use l4lb::decap::DecapStatus;
use l4lb::decap_results;
use l4lb::mss_results;
use l4lb::netlink::own_name;
use l4lb::serving::Part;
use serde_json::json;

use crate::Exit;
use crate::Result;
use crate::args::DecapCommand;
use crate::output;

pub(crate) fn run(instance: &Instance, command: &DecapCommand, json: bool) -> Result {
    match command {
        DecapCommand::Attach { interface, asked, how } => {
            let (request, mode) = (asked.request(), how.mode.into());
            print(&decap::attach(instance, interface, mode, &request, how.adopt.adopt)?, json)?;
        }
        DecapCommand::Serve(args) => return serve::serve(instance, args),
        DecapCommand::Reload { interface, reload } => {
            let part = Part::Decap(own_name(interface).map_err(l4lb::Error::from)?);
            return super::reload::reload(instance, &part, reload, json);
        }
        DecapCommand::Detach { interface } => {
            let detached = decap::detach(instance, interface.as_deref())?;
            if json {
                output::json(&json!({ "detached": detached }))?;
            } else if !detached {
                output::line("nothing to detach")?;
            }
        }
        DecapCommand::Status => {
            print(&decap::status(instance)?, json)?;
            if !json {
                print_outdated(instance)?;
            }
        }
    }
    Ok(Exit::Done)
}

/// Prints which of the host's addresses decapsulation does not follow. Whether a process follows them is not visible.
fn print_outdated(instance: &Instance) -> Result<()> {
    let outdated = match decap::outdated(instance) {
        Err(error @ l4lb::Error::OtherNamespace { .. }) => {
            output::line("")?;
            return Ok(output::line(error.to_string())?);
        }
        outdated => outdated?,
    };
    if !outdated.is_empty() {
        output::line("")?;
        output::line(
            "the host has other addresses than decapsulation uses; only 'lbctl decap serve' follows them:",
        )?;
        output::line(outdated.to_string().trim_end())?;
    }
    Ok(())
}

fn print(status: &DecapStatus, json: bool) -> Result<()> {
    if json {
        output::json(status)?;
        return Ok(());
    }
    let interfaces = status.interfaces.iter().map(|(name, mode)| {
        [name.clone(), mode.map_or_else(|| "NOT ATTACHED".to_owned(), |mode| mode.to_string())]
    });
    output::table(["INTERFACE", "MODE"], &[], interfaces)?;
    output::line("")?;
    for interface in status.lost.keys() {
        output::line(format!(
            "interface {interface} is gone, or somebody took the program off it: what was asked for it is out of \
             force, or will be soon"
        ))?;
    }
    if status.own_addresses_left_out != 0 {
        output::line(format!(
            "this host has {} addresses more than there is room for: inner packets from them are not refused",
            status.own_addresses_left_out
        ))?;
    }
    output::table(["CHECKED", "ALLOWED", "TAKEN FROM"], &[], allowed(status))?;
    output::line("")?;
    let results = decap_results().iter().filter_map(|result| {
        let count = status.results.get(result.name).copied().unwrap_or_default();
        // Most hosts get no GUE, and there are many ways to get it wrong.
        let shown = count.packets != 0 || !result.name.starts_with("gue");
        shown.then(|| [result.name.to_owned(), count.packets.to_string(), count.bytes.to_string()])
    });
    output::table(["RESULT", "PACKETS", "BYTES"], &[1, 2], results)?;
    if !status.mss.is_empty() {
        output::line("")?;
        let counts = mss_results().iter().map(|result| {
            let count = status.mss_results.get(result.name).copied().unwrap_or_default();
            [result.name.to_owned(), count.to_string()]
        });
        output::table(["MSS", "SEGMENTS WITH SYN"], &[1], counts)?;
    }
    Ok(())
}

/// The destinations that inner packets may have, and where they come from.
fn allowed(status: &DecapStatus) -> Vec<[String; 3]> {
    let mut rows = Vec::new();
    let mut add = |(checked, option): (&str, &str), allowed: Vec<(String, bool)>, none: &str| {
        let none = allowed.is_empty().then(|| [checked, none, ""].map(str::to_owned));
        let row = |(allowed, asked): (String, bool)| {
            [
                checked.to_owned(),
                allowed,
                if asked { option } else { "host's addresses" }.to_owned(),
            ]
        };
        rows.extend(allowed.into_iter().map(row).chain(none));
    };
    let requests = || status.requests.values();
    let from = status.from.iter().map(|prefix| (decap::prefix_name(prefix), true));
    let none = if status.anybody_may_send { "anybody" } else { "none" };
    add(("outer source", "--from"), from.collect(), none);
    let asked = |address| requests().any(|request| request.addresses.contains(address));
    let addresses = status.addresses.iter().map(|address| (address.to_string(), asked(address)));
    add(("outer destination", "--address"), addresses.collect(), "none");
    let asked =
        |port| requests().any(|request| request.gue_ports.iter().flatten().any(|p| p == port));
    let ports = status.gue_ports.iter().map(|port| (format!("UDP port {port}"), asked(port)));
    let ports = ports.map(|(port, asked)| {
        ["GUE".to_owned(), port, if asked { "--gue-port" } else { "default" }.to_owned()]
    });
    let ports: Vec<_> = ports.collect();
    let asked = |prefix| requests().any(|request| request.to.contains(prefix));
    let to = status.to.iter().map(|prefix| (decap::prefix_name(prefix), asked(prefix)));
    add(("inner destination", "--to"), to.collect(), "none: every packet is dropped");
    rows.extend(ports);
    rows.extend(status.mss.iter().map(|(name, mss)| {
        let bytes = match (mss.ipv4, mss.ipv6) {
            (Some(v4), Some(v6)) => format!("{v4}, IPv6 {v6}"),
            _ => "NOT LOWERED".to_owned(),
        };
        [format!("MSS by {name}"), bytes, "--mss".to_owned()]
    }));
    rows
}
