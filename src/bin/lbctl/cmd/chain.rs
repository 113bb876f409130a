//! `lbctl chain`

use std::time::SystemTime;

use l4lb::Instance;
use l4lb::chain;
use l4lb::chain::InsertOptions;
use l4lb::chain::SlotStatus;
use l4lb::time_in_words;
use serde_json::json;

use crate::Exit;
use crate::Result;
use crate::args::ChainCommand;
use crate::output;

pub(crate) fn run(instance: &Instance, command: &ChainCommand, json: bool) -> Result {
    match command {
        ChainCommand::List => {
            let list = chain::list(instance)?;
            if json {
                output::json(&list)?;
            } else {
                print(&list)?;
                print_interfaces(instance)?;
            }
        }
        ChainCommand::Insert { slot, source, name, program, interfaces, mode, adopt } => {
            let options = InsertOptions {
                name: name.clone(),
                program: program.clone(),
                interfaces: interfaces.clone(),
                mode: (*mode).into(),
                adopt: adopt.adopt,
            };
            done(&chain::insert(instance, *slot, source, &options)?, json)?;
        }
        ChainCommand::Remove { program } => {
            let name = chain::remove(instance, program)?;
            if json {
                output::json(&json!({ "removed": name }))?;
            } else {
                output::line(format!("{name} is removed"))?;
            }
        }
        ChainCommand::Move { program, to } => {
            done(&chain::relocate(instance, program, *to)?, json)?;
        }
    }
    Ok(Exit::Done)
}

fn done(program: &SlotStatus, json: bool) -> Result<()> {
    if json {
        output::json(program)?;
    } else {
        output::line(format!("slot {}: {} (id {})", program.slot, program.name, program.id))?;
    }
    Ok(())
}

fn print_interfaces(instance: &Instance) -> Result<()> {
    let interfaces: Vec<_> = chain::interfaces(instance)?
        .into_iter()
        .map(|(name, on)| match (on.mode, on.direct) {
            (Some(mode), Some(program)) => format!("{name} ({mode}, direct: {program})"),
            (Some(mode), None) => format!("{name} ({mode}, root)"),
            (None, _) => format!("{name} (NOT ATTACHED, or in another network namespace)"),
        })
        .collect();
    if !interfaces.is_empty() {
        output::line(format!("on {}", interfaces.join(", ")))?;
    }
    Ok(())
}

fn since(loaded: SystemTime) -> String {
    time_in_words(loaded.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs())
}

/// Prints a chain.
pub(crate) fn print(chain: &[SlotStatus]) -> Result<()> {
    let absent = || "-".to_owned();
    let rows = chain.iter().map(|program| {
        [
            program.slot.to_string(),
            program.name.clone(),
            program.id.to_string(),
            program.since.map_or_else(absent, since),
            program.packets.map_or_else(absent, |packets| packets.to_string()),
            if program.hands_on { "" } else { "ENDS THE CHAIN" }.to_owned(),
        ]
    });
    output::table(["SLOT", "PROGRAM", "ID", "SINCE", "PACKETS", ""], &[0, 2, 4], rows)?;
    if chain.iter().any(|program| !program.hands_on) {
        output::line("(what a program passes that ends the chain goes to the kernel)")?;
    }
    Ok(())
}
