//! How receive queues and interrupts spread packets over the CPUs.

use std::fmt::Write as _;

use super::catalogue::FindingId;
use super::catalogue::Severity;
use super::native::HALF_OF_QUEUES;
use super::native::in_use;
use super::native::set_queues;
use super::nic::Nic;
use super::report::Answer;
use super::report::Check;
use super::report::Fix;

pub(super) const CHECKS: &[Check<Nic>] =
    &[(FindingId::FewQueues, few_queues), (FindingId::InterruptsOnOneCpu, interrupts_on_one_cpu)];

fn few_queues(nic: &Nic) -> Option<Answer> {
    nic.link.as_ref()?;
    let (channels, cpus) = match nic.channels_and_cpus() {
        Ok(both) => both,
        Err(answer) => return Some(answer),
    };
    let queues = channels.receiving();
    if queues >= cpus {
        return Some(Answer::Well);
    }
    let (used, most) = in_use(channels);
    // Native XDP needs the other half.
    let most = if HALF_OF_QUEUES.contains(&nic.driver.as_str()) { most / 2 } else { most };
    let wanted = most.min(cpus);
    Some(Answer::hurts(
        if queues <= 1 { Severity::Warning } else { Severity::Note },
        format!("{queues} receive queue{} for {cpus} CPUs", if queues == 1 { "" } else { "s" }),
        "one CPU at a time serves a queue: the other CPUs do not help",
        if wanted > used {
            Fix::Command(set_queues(nic, channels, wanted))
        } else {
            Fix::Advice(
                "the interface has no more queues: give the virtual machine more, or use another card"
                    .to_owned(),
            )
        },
    ))
}

fn interrupts_on_one_cpu(nic: &Nic) -> Option<Answer> {
    nic.link.as_ref()?;
    let interrupts = nic.interrupts.as_ref()?;
    let Some(cpu) = interrupts.cpus.first().filter(|_| interrupts.cpus.len() == 1) else {
        return Some(Answer::Well);
    };
    if interrupts.numbers.len() < 2 || nic.online.len() < 2 {
        return Some(Answer::Well);
    }
    let mut command = String::new();
    for (number, cpu) in interrupts.numbers.iter().zip(nic.online.iter().cycle()) {
        let and = if command.is_empty() { "" } else { "; " };
        // Writing to a String does not fail.
        let _ = write!(command, "{and}echo {cpu} >/proc/irq/{number}/smp_affinity_list");
    }
    Some(Answer::hurts(
        Severity::Warning,
        format!(
            "CPU {cpu} serves the interrupts of all {} receive queues",
            interrupts.numbers.len()
        ),
        "that CPU does all the work; connection_table.cpus = \"auto\" gives no other CPU a table",
        Fix::Command(format!(
            "{command}   # then 'lbctl apply -f FILE', for the connection tables"
        )),
    ))
}
