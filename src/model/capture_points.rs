//! Where packets are captured.

/// Where packets are captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Points {
    /// As they come in, before any other program of the chain sees them.
    #[default]
    Entry,
    /// As they leave the balancer, with its decision.
    Exit,
    /// Both: a packet that passes both is captured twice.
    Both,
}

impl Points {
    /// Whether packets are captured at entry.
    pub fn entry(self) -> bool {
        self != Self::Exit
    }

    /// Whether packets are captured at exit.
    pub fn exit(self) -> bool {
        self != Self::Entry
    }
}
