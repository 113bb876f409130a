//! `lbctl instances`

use std::path::Path;

use l4lb::Balancer;
use l4lb::Condition;
use l4lb::Instance;
use l4lb::outside::message;
use l4lb::serving::Server;
use serde::Serialize;

use crate::Exit;
use crate::Result;
use crate::output;

/// An instance, as far as it can be read.
#[derive(Debug, Serialize)]
struct Shown {
    instance: String,
    /// `None`: it could not be read.
    #[serde(flatten)]
    state: Option<State>,
    /// Why it could not be read.
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct State {
    condition: Condition,
    vips: usize,
    interfaces: Vec<String>,
    serve: Option<Server>,
}

pub(crate) fn list(bpffs: &Path, json: bool) -> Result {
    let instances: Vec<_> = Instance::all(bpffs)?.iter().map(look).collect();
    if json {
        output::json(&instances)?;
        return Ok(Exit::Done);
    }
    if instances.is_empty() {
        output::line(format_args!("no instance runs with pins in {}", bpffs.display()))?;
        return Ok(Exit::Done);
    }
    let rows = instances.iter().map(|shown| match &shown.state {
        Some(state) => [
            shown.instance.clone(),
            condition(&state.condition),
            state.vips.to_string(),
            state.interfaces.join(" "),
            state.serve.as_ref().map_or_else(|| "no".to_owned(), serve),
        ],
        None => [
            shown.instance.clone(),
            message(shown.error.as_deref().unwrap_or_default()),
            "-".to_owned(),
            "-".to_owned(),
            "-".to_owned(),
        ],
    });
    output::table(["INSTANCE", "CONDITION", "VIPS", "INTERFACES", "SERVE"], &[2], rows)?;
    Ok(Exit::Done)
}

fn look(instance: &Instance) -> Shown {
    let status = Balancer::open(instance).and_then(|balancer| balancer.status());
    let (state, error) = match status {
        Ok(status) => {
            let interfaces = status.interfaces.into_keys().collect();
            let (condition, vips) = (status.condition, status.vips.len());
            (Some(State { condition, vips, interfaces, serve: status.serve }), None)
        }
        Err(error) => (None, Some(error.to_string())),
    };
    Shown { instance: instance.name().to_owned(), state, error }
}

fn condition(condition: &Condition) -> String {
    match condition.findings.len() {
        _ if condition.well => "well".to_owned(),
        1 => "NOT WELL, 1 thing".to_owned(),
        count => format!("NOT WELL, {count} things"),
    }
}

fn serve(server: &Server) -> String {
    server.pid.map_or_else(|| "yes".to_owned(), |pid| format!("process {pid}"))
}
