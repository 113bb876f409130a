//! `lbctl decap`

use l4lb::Instance;
use l4lb::decap;
use l4lb::decap::DecapStatus;

use crate::Exit;
use crate::Result;
use crate::args::DecapCommand;
use crate::output;

pub(crate) fn run(instance: &Instance, command: &DecapCommand, json: bool) -> Result {
    match command {
        DecapCommand::Attach { interface, addresses, mode, adopt } => {
            let mode = (*mode).into();
            print(&decap::attach(instance, interface, mode, addresses, adopt.adopt)?, json)?;
        }
        DecapCommand::Detach { interface } => {
            if !decap::detach(instance, interface.as_deref())? {
                output::line("nothing to detach")?;
            }
        }
        DecapCommand::Status => print(&decap::status(instance)?, json)?,
    }
    Ok(Exit::Done)
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
    output::table(["ADDRESS"], &[], status.addresses.iter().map(|address| [address.to_string()]))?;
    output::line("")?;
    let results = status.results.iter().map(|(name, count)| {
        [(*name).to_owned(), count.packets.to_string(), count.bytes.to_string()]
    });
    output::table(["RESULT", "PACKETS", "BYTES"], &[1, 2], results)?;
    Ok(())
}
