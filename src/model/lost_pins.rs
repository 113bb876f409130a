//! Pins of an instance that somebody removed or replaced: which, and what to do about it.

use std::fmt;

use serde::Serialize;

/// A pin that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LostPin {
    /// Its place in the folder of the instance: `map/vips`.
    pub pin: String,
    /// Whether something else is pinned there. If not, nothing is.
    pub replaced: bool,
    /// Whether a running program still holds the object, or it can be loaded again. Then it is pinned again without an
    /// interruption.
    pub held: bool,
    #[serde(skip)]
    pub(crate) object: Option<Object>,
    /// Whether it is the pin of a map that only decapsulation has.
    #[serde(skip)]
    pub(crate) of_decap: bool,
}

/// An object of the kernel, by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    Program(u32),
    Map(u32),
    /// The root program, which the kernel has freed: it can be loaded again, since it has nothing of its own.
    Root,
}

/// The pins and chain slots of an instance that are not as they should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct LostPins {
    /// The instance's name.
    #[serde(skip)]
    pub instance: String,
    /// The pins.
    pub pins: Vec<LostPin>,
    /// Programs that are no longer in the chain because the kernel emptied it. Packets do not reach them.
    pub passed_by: Vec<String>,
    /// The slots where these belong, and their names.
    #[serde(skip)]
    pub(crate) slots: Vec<(u32, String)>,
    #[serde(skip)]
    pub(crate) has_balancer: bool,
    #[serde(skip)]
    pub(crate) has_decap: bool,
    #[serde(skip)]
    pub(crate) has_others: bool,
}

impl LostPins {
    /// Whether everything is as it should be.
    pub fn is_empty(&self) -> bool {
        self.pins.is_empty() && self.slots.is_empty()
    }

    /// Whether a pin is lost.
    pub(crate) fn has(&self, pin: &str) -> bool {
        self.pins.iter().any(|lost| lost.pin == pin)
    }

    /// Whether something must be set up anew: the kernel freed an object that nothing held any more.
    pub fn needs_repair(&self) -> bool {
        self.pins.iter().any(|lost| !lost.held)
    }

    /// Whether traffic goes on as if nothing was lost: only pins are missing.
    pub fn goes_on(&self) -> bool {
        self.passed_by.is_empty() && !self.needs_repair()
    }

    /// Whether the balancer has to be set up anew. Maps of decapsulation do not count.
    pub(crate) fn balancer_needs_repair(&self) -> bool {
        self.pins.iter().any(|lost| !lost.held && !lost.of_decap)
    }

    /// What the balancer lacks. If the kernel freed maps of decapsulation, only `decap attach` restores them.
    pub(crate) fn of_balancer(mut self) -> Self {
        self.pins.retain(|lost| lost.held || !lost.of_decap);
        self
    }

    /// What the plan does about each pin, and then about each program, one line each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for LostPin { pin, replaced, held, .. } in &self.pins {
            let what =
                if *replaced { "something else is pinned there" } else { "somebody removed it" };
            let then = if *held {
                "pinned again, without an interruption"
            } else {
                "the kernel has freed it: only apply --repair sets the balancer up anew"
            };
            lines.push(format!("~ pin {pin}: {what}; {then}"));
        }
        for program in self.out_of_slot() {
            lines.push(format!("~ chain: {program} has no slot any more; it is put back into it"));
        }
        for program in &self.passed_by {
            lines.push(format!(
                "~ chain: packets do not reach {program}; it is put back into its slot"
            ));
        }
        lines
    }

    /// The programs that have lost their slot, and go on because links hold them themselves.
    fn out_of_slot(&self) -> impl Iterator<Item = &str> {
        let names = self.slots.iter().map(|(_, name)| name.as_str());
        names.filter(|name| !self.passed_by.iter().any(|passed_by| passed_by == name))
    }

    /// What is wrong, without what to do about it.
    pub fn what(&self) -> String {
        let names = |replaced| {
            let pins = self.pins.iter().filter(|lost| lost.replaced == replaced);
            pins.map(|lost| lost.pin.as_str()).collect::<Vec<_>>().join(", ")
        };
        let (gone, replaced) = (names(false), names(true));
        let mut parts = Vec::new();
        if !gone.is_empty() {
            parts.push(format!("somebody removed {gone}"));
        }
        if !replaced.is_empty() {
            parts.push(format!("something else is pinned as {replaced}"));
        }
        if !self.passed_by.is_empty() {
            parts.push(format!(
                "the chain was emptied, and packets do not reach {}",
                self.passed_by.join(", ")
            ));
        }
        let out_of_slot: Vec<_> = self.out_of_slot().collect();
        if !out_of_slot.is_empty() {
            parts.push(format!(
                "the chain was emptied, and only the links hold {}",
                out_of_slot.join(", ")
            ));
        }
        parts.join("; ")
    }

    /// What to do about it. Each command in it begins with `lbctl`, which is the program's name or path.
    pub fn remedy(&self, lbctl: &str) -> String {
        let freed = |of_decap| {
            let freed = self.pins.iter().filter(|lost| !lost.held && lost.of_decap == of_decap);
            freed.map(|lost| lost.pin.as_str()).collect::<Vec<_>>().join(", ")
        };
        let (freed, freed_of_decap) = (freed(false), freed(true));
        if !freed.is_empty() {
            return format!(
                "the kernel has freed {freed}: '{lbctl} apply --repair -f FILE' takes the balancer down and sets it \
                 up anew: for about a second nothing is balanced, and flows are forgotten"
            );
        }
        if !freed_of_decap.is_empty() {
            return format!(
                "the kernel has freed {freed_of_decap}: '{lbctl} decap attach', as before, for each interface, sets \
                 decapsulation up anew"
            );
        }
        let command = match self {
            Self { has_balancer: true, .. } => format!("'{lbctl} apply -f FILE'"),
            Self { has_decap: true, .. } => format!("'{lbctl} decap attach', as before,"),
            _ => format!("'{lbctl} chain insert', as before,"),
        };
        if self.passed_by.is_empty() {
            format!("what runs goes on; {command} pins it again, without an interruption")
        } else {
            format!("{command} puts them back")
        }
    }
}

impl fmt::Display for LostPins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instance '{}': {}; {}", self.instance, self.what(), self.remedy("lbctl"))
    }
}

#[cfg(test)]
mod tests {
    use super::LostPin;
    use super::LostPins;

    fn freed(pins: &[&str]) -> LostPins {
        let freed = |pin: &&str| LostPin {
            pin: (*pin).to_owned(),
            replaced: false,
            held: false,
            object: None,
            of_decap: pin.starts_with("map/decap"),
        };
        let pins = pins.iter().map(freed).collect();
        LostPins { pins, has_balancer: true, has_decap: true, ..LostPins::default() }
    }

    /// An apply ignores what it cannot restore.
    #[test]
    fn maps_of_decapsulation_are_brought_back_by_decap_attach() {
        let decap = freed(&["map/decap_settings"]);
        assert!(!decap.balancer_needs_repair());
        let remedy = decap.remedy("lbctl");
        assert!(remedy.contains("'lbctl decap attach'") && !remedy.contains("apply"), "{remedy}");
        assert!(decap.of_balancer().is_empty());

        let both = freed(&["map/decap_settings", "prog/balancer"]);
        assert!(both.balancer_needs_repair());
        let remedy = both.remedy("lbctl");
        assert!(remedy.starts_with("the kernel has freed prog/balancer: 'lbctl apply --repair"));
        let left: Vec<_> = both.of_balancer().pins.into_iter().map(|lost| lost.pin).collect();
        assert_eq!(left, ["prog/balancer"]);
    }
}
