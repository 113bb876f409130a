//! What `lbctl serve` and `lbctl decap serve` do, for services that embed them.
//!
//! Forwarding and decapsulating need no process: what is in the kernel goes on by itself. An agent keeps it right while
//! the host changes. [`Agent`] does so for a balancer, [`DecapAgent`] for a real. Both
//!
//! - claim what they serve, so that no second process serves it, too, and `lbctl reload` and `lbctl status` find them;
//! - follow the kernel: gateways that get another MAC, interfaces that come and are made anew, the host's addresses;
//! - pin again what somebody removed the pins of;
//! - answer `/metrics`, `/healthz` and `/readyz`.
//!
//! A [`Control`] stops an agent and has it reload, as SIGTERM and SIGHUP do for `lbctl serve`. What it comes to are
//! [`Event`]s; what it finds and does, one by one, it logs by [`tracing`].
//!
//! An agent needs root and Linux 5.15 ([`MINIMUM_KERNEL`](crate::MINIMUM_KERNEL)). It runs on a runtime of tokio, with
//! time and I/O enabled; one thread is enough, and it leaves to the runtime's blocking threads what may take long. Drop
//! its future, or the runtime, and it ends as if it was killed: forwarding goes on, and the claim is gone.
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

mod balancer;
mod control;
mod decap;
mod endpoint;
mod event;
mod http;
mod process;
mod reloads;
mod repairs;
mod warnings;

pub use balancer::Agent;
pub use balancer::Options;
pub use control::Control;
pub use decap::DecapAgent;
pub use decap::DecapOptions;
pub use event::Event;
pub use event::Outcome;
