//! What `lbctl serve` and `lbctl decap serve` do, for services that embed them.
//!
//! Forwarding and decapsulating need no process: the kernel does both by itself. An agent adapts what is in the kernel
//! while the host changes. [`Agent`] does so for a balancer, [`DecapAgent`] for a real. Both
//!
//! - claim what they serve: no second process can serve it, and `lbctl reload` and `lbctl status` find them;
//! - follow the kernel: new MACs of gateways, interfaces that appear or are made anew, the host's addresses;
//! - restore pins that somebody removed;
//! - answer `/metrics`, `/healthz` and `/readyz`.
//!
//! A [`Control`] stops an agent or makes it reload, as SIGTERM and SIGHUP do for `lbctl serve`. It reports [`Event`]s,
//! and logs what it finds and does by [`tracing`].
//!
//! An agent needs root and Linux 5.15 ([`MINIMUM_KERNEL`](crate::MINIMUM_KERNEL)). It runs on a tokio runtime with time
//! and I/O enabled. One thread is enough: slow work runs on the runtime's blocking threads. If you drop its future or
//! the runtime, it ends as if it was killed: forwarding goes on, and the claim is released.
//!
//! ```no_run
//! use l4lb::Instance;
//! use l4lb::agent::{Agent, Control, Event, Options};
//!
//! # async fn run() -> l4lb::Result<()> {
//! let agent = Agent::from_file(&Instance::default(), "/etc/l4lb.toml", Options::default())?;
//! let control = Control::default();
//! // A clone of `control` goes to whatever decides when to stop.
//! agent
//!     .run(&control, |event| {
//!         if let Event::Reloaded(outcome) = event {
//!             println!("{outcome}");
//!         }
//!     })
//!     .await
//! # }
//! ```

mod api;
mod balancer;
pub mod checks;
mod control;
mod decap;
mod drift;
mod endpoint;
mod event;
mod http;
mod page;
mod printed;
mod process;
mod reloads;
mod repairs;
mod trusted;
mod warnings;

pub use balancer::Agent;
pub use balancer::Options;
pub use control::Control;
pub use decap::DecapAgent;
pub use decap::DecapOptions;
pub use event::Event;
pub use event::Outcome;
pub use printed::MAX_OUTPUT;
pub use printed::Printed;
pub use printed::Printer;
pub use printed::Secrets;
pub use printed::ask;
