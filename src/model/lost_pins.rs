//! Pins of an instance that somebody removed, or put something else in the place of: which, and what to do about it.

use std::fmt;

use serde::Serialize;

/// A pin that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LostPin {
    /// Its place in the folder of the instance: `map/vips`.
    pub pin: String,
    /// Whether something else is pinned there. Else nothing is.
    pub replaced: bool,
    /// Whether what runs still holds the object, so that it can be pinned again without an interruption.
    pub held: bool,
    #[serde(skip)]
    pub(crate) object: Option<Object>,
    /// Whether it is of a map that decapsulation alone has.
    #[serde(skip)]
    pub(crate) of_decap: bool,
}

/// An object of the kernel, by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    Program(u32),
    Map(u32),
}

/// What of an instance is not as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct LostPins {
    /// The instance's name.
    #[serde(skip)]
    pub instance: String,
    /// The pins.
    pub pins: Vec<LostPin>,
    /// Programs that are not in the chain any more, as the kernel has emptied it: packets pass by them.
    pub passed_by: Vec<String>,
    /// The slots that these belong into, and their names.
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

    /// Whether it takes setting up anew: the kernel has freed something, as nothing held it any more.
    pub fn needs_repair(&self) -> bool {
        self.pins.iter().any(|lost| !lost.held)
    }

    /// Whether what runs goes on as if nothing was lost: only pins are missing.
    pub fn goes_on(&self) -> bool {
        self.passed_by.is_empty() && !self.needs_repair()
    }

    /// Whether the balancer has to be set up anew. Maps of decapsulation are no concern of its.
    pub(crate) fn balancer_needs_repair(&self) -> bool {
        self.pins.iter().any(|lost| !lost.held && !lost.of_decap)
    }

    /// What the balancer misses. What the kernel has freed of decapsulation, only `decap attach` brings back.
    pub(crate) fn of_balancer(mut self) -> Self {
        self.pins.retain(|lost| lost.held || !lost.of_decap);
        self
    }

    /// What becomes of it, a line each.
    pub(crate) fn plan(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for LostPin { pin, replaced, held, .. } in &self.pins {
            let what =
                if *replaced { "something else is pinned there" } else { "somebody removed it" };
            let then = if *held {
                "pinned again, without an interruption"
            } else {
                "the kernel has freed it: the balancer is set up anew, which apply does with --repair only"
            };
            writeln!(f, "~ pin {pin}: {what}; {then}")?;
        }
        for program in &self.passed_by {
            writeln!(f, "~ chain: packets pass by {program}; put back into its slot")?;
        }
        Ok(())
    }

    /// What is so, without what to do about it.
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
                "packets pass by {}, as the chain was emptied",
                self.passed_by.join(", ")
            ));
        }
        parts.join("; ")
    }

    /// What to do about it; with a path or word in front of each command, such as `lbctl`.
    pub fn remedy(&self, lbctl: &str) -> String {
        let freed = |of_decap| {
            let freed = self.pins.iter().filter(|lost| !lost.held && lost.of_decap == of_decap);
            freed.map(|lost| lost.pin.as_str()).collect::<Vec<_>>().join(", ")
        };
        let (freed, freed_of_decap) = (freed(false), freed(true));
        if !freed.is_empty() {
            return format!(
                "the kernel has freed {freed}: '{lbctl} apply --repair -f FILE' takes the balancer down and sets it \
                 up anew, for about a second without it, and forgets flows"
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

    /// What an apply cannot bring back does not hold it up, and is not what it is told for.
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
