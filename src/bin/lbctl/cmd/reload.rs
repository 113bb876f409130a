//! `lbctl reload`, `lbctl decap reload`: reloads, and reports the outcome.

use std::time::Duration;

use l4lb::Instance;
use l4lb::outside::message;
use l4lb::serving;
use l4lb::serving::Part;

use crate::Exit;
use crate::Result;
use crate::args::ReloadArgs;
use crate::output;

pub(crate) fn reload(instance: &Instance, part: &Part, args: &ReloadArgs, json: bool) -> Result {
    let outcome = {
        let timeout = Duration::from_secs(args.timeout);
        if args.yes {
            serving::reload_consenting(instance, part, timeout)?
        } else {
            serving::reload(instance, part, timeout)?
        }
    };
    if json {
        output::json(&outcome)?;
    } else if outcome.success {
        output::line("reloaded")?;
    } else {
        let error = format!("error: {}: {}", outcome.what(), outcome.message);
        output::complain(message(&error));
    }
    Ok(if outcome.success { Exit::Done } else { Exit::Failed })
}
