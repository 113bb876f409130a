//! The text of a plan.

use std::fmt;

use super::InterfaceAction;
use super::Plan;
use super::ProgramChange;
use crate::model::flow_effect::Changed;
use crate::plan::diff::VipAction;

impl Plan {
    /// The line about flows below a change.
    fn flows_of(&self, f: &mut fmt::Formatter<'_>, change: &Changed) -> fmt::Result {
        match self.flows.iter().find(|effect| effect.change == *change) {
            Some(effect) => writeln!(f, "    flows: {}", effect.what),
            None => Ok(()),
        }
    }

    fn interfaces(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.interfaces {
            let sign = match change.action {
                InterfaceAction::Attach => '+',
                InterfaceAction::Detach => '-',
                InterfaceAction::Update | InterfaceAction::Reattach => '~',
            };
            write!(f, "{sign} interface {}", change.name)?;
            if !change.details.is_empty() {
                write!(f, ": {}", change.details.join(", "))?;
            }
            writeln!(f)?;
            self.flows_of(f, &Changed::Interface(change.name.clone()))?;
        }
        Ok(())
    }

    fn vips(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.vips {
            let sign = match change.action {
                VipAction::Add => '+',
                VipAction::Remove => '-',
                VipAction::Change | VipAction::Repair => '~',
            };
            write!(f, "{sign} vip {}", change.vip)?;
            match change.action {
                // If the ring stays as it is, nothing moves.
                VipAction::Change if change.moved > 0.0 => {
                    write!(
                        f,
                        ": {:.2} % of its hash space moves (new flows, and flows that the connection table does not know)",
                        change.moved * 100.0
                    )?;
                }
                VipAction::Repair => write!(f, ": completed after an interrupted command")?,
                VipAction::Change | VipAction::Add | VipAction::Remove => {}
            }
            writeln!(f)?;
            for detail in &change.details {
                writeln!(f, "    {detail}")?;
            }
            self.flows_of(f, &Changed::Vip(change.vip))?;
        }
        Ok(())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lost.plan(f)?;
        match &self.program {
            None => {}
            Some(ProgramChange::Load) => writeln!(f, "+ program balancer")?,
            Some(ProgramChange::Replace { details }) => {
                writeln!(f, "~ program balancer: {}", details.join(", "))?;
            }
        }
        self.flows_of(f, &Changed::Program)?;
        if !self.connection_table.is_empty() {
            writeln!(f, "~ connection table: {}", self.connection_table.join(", "))?;
        }
        self.flows_of(f, &Changed::ConnectionTable)?;
        self.interfaces(f)?;
        for unserved in &self.unserved {
            writeln!(f, "! {unserved}")?;
        }
        self.vips(f)?;
        for change in &self.addresses {
            writeln!(f, "{change}")?;
        }
        for change in &self.server_ids {
            match (change.from, change.to) {
                (None, Some(to)) => writeln!(f, "+ server id {}: {to}", change.id)?,
                (Some(from), Some(to)) => writeln!(f, "~ server id {}: {from} → {to}", change.id)?,
                (_, None) => writeln!(f, "- server id {}", change.id)?,
            }
            self.flows_of(f, &Changed::ServerId(change.id))?;
        }
        for change in &self.checks {
            let sign = if change.starts_with(['+', '-']) { "" } else { "~ " };
            writeln!(f, "{sign}{change}")?;
        }
        for mismatch in &self.repairs {
            writeln!(f, "~ {mismatch}: written anew")?;
        }
        if self.clean_up {
            writeln!(f, "~ leftovers of an interrupted command are removed")?;
        }
        if let Some(memory) = &self.memory {
            memory.fmt(f)?;
        }
        if self.is_empty() {
            writeln!(f, "nothing to change")?;
        }
        Ok(())
    }
}
