//! How packets go to reals, on the command line.

use clap::ValueEnum;

/// `l4lb::Encapsulation`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Encapsulation {
    /// IP in IP
    Ipip,
    /// Generic UDP encapsulation
    Gue,
    /// No outer header: the frame goes to the real's own MAC
    L2,
}

impl From<Encapsulation> for l4lb::Encapsulation {
    fn from(choice: Encapsulation) -> Self {
        match choice {
            Encapsulation::Ipip => Self::Ipip,
            Encapsulation::Gue => Self::Gue,
            Encapsulation::L2 => Self::L2,
        }
    }
}

/// The same, or what the next level says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EncapsulationOrDefault {
    /// IP in IP
    Ipip,
    /// Generic UDP encapsulation
    Gue,
    /// No outer header: the frame goes to the real's own MAC
    L2,
    /// A VIP: as `[packets]` says; a real: as its VIP says
    Default,
}

impl From<EncapsulationOrDefault> for Option<l4lb::Encapsulation> {
    fn from(choice: EncapsulationOrDefault) -> Self {
        match choice {
            EncapsulationOrDefault::Ipip => Some(l4lb::Encapsulation::Ipip),
            EncapsulationOrDefault::Gue => Some(l4lb::Encapsulation::Gue),
            EncapsulationOrDefault::L2 => Some(l4lb::Encapsulation::L2),
            EncapsulationOrDefault::Default => None,
        }
    }
}
