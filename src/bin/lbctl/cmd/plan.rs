//! `lbctl plan`, `lbctl apply`

use l4lb::ApplyOptions;
use l4lb::Balancer;
use l4lb::Instance;
use l4lb::OnUnserved;
use l4lb::Plan;
use l4lb::serving::unread;

use crate::Exit;
use crate::Result;
use crate::args::Apply;
use crate::args::ApplyOnce;
use crate::args::ConfigFile;
use crate::audit;
use crate::cmd::config_file;
use crate::output;

/// Prints the warnings of a plan, and notes what it changes.
pub(super) fn warn(plan: &Plan) {
    audit::note(plan);
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
}

pub(crate) fn plan(instance: &Instance, file: &ConfigFile, json: bool) -> Result {
    let (config, path) = config_file::read(instance, file)?;
    let plan = Balancer::plan(instance, &config).map_err(|error| error.in_file(&path))?;
    warn(&plan);
    let changes = !plan.is_empty();
    if json {
        // The control API has plans without a digest: it applies what it plans.
        let mut report = serde_json::to_value(&plan).map_err(std::io::Error::from)?;
        if let Some(members) = report.as_object_mut() {
            members.insert("digest".to_owned(), plan.digest().into());
        }
        output::json(&report)?;
    } else {
        output::text(&plan)?;
    }
    if changes && !json {
        let digest = plan.digest();
        output::line(format!(
            "digest {digest}: lbctl apply --expect {digest} applies exactly this"
        ))?;
    }
    // Only `plan` prints this: a user of `apply` has seen the plan, or does not need it.
    if !json && !plan.tied_reals.is_empty() {
        output::text(&plan.tied_reals)?;
    }
    if let (Some(why), false) = (plan.refusal(), json) {
        output::text(format!("apply refuses this without --yes: {why}\n"))?;
    }
    let done = plan.is_empty() && plan.unserved.is_empty();
    Ok(if done { Exit::Done } else { Exit::Differences })
}

pub(crate) fn apply(instance: &Instance, args: &ApplyOnce, json: bool) -> Result {
    let ApplyOnce { apply: Apply { file, adopt, strict }, yes, repair, expect } = args;
    let (config, path) = config_file::read(instance, file)?;
    let on_unserved = if *strict { OnUnserved::Fail } else { OnUnserved::LeaveOut };
    let mut options = ApplyOptions::from(on_unserved);
    options.adopt = adopt.adopt;
    options.allow_breaking = *yes;
    options.repair = *repair;
    options.refuse_removals = !yes;
    options.expected.clone_from(expect);
    let mut announced = Ok(());
    let announce = |plan: &Plan| {
        if let (Some(memory), false) = (&plan.memory, json) {
            announced = output::text(memory);
        }
    };
    let mut plan = Balancer::apply_announced(instance, &config, options, announce)
        .map_err(|error| error.in_file(&path))?;
    announced?;
    plan.warnings.extend(unread(instance, &config)?.map(|unread| unread.to_string()));
    warn(&plan);
    let unserved = plan.unserved.clone();
    if !json {
        // `announce` printed it, before the kernel allocated the memory.
        plan.memory = None;
        // The loop below reports these on standard error.
        plan.unserved.clear();
    }
    output::report(&plan, json)?;
    for unserved in &unserved {
        tracing::error!("{unserved}");
    }
    Ok(if unserved.is_empty() { Exit::Done } else { Exit::Failed })
}
