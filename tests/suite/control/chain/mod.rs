//! The chain: programs of others beside the balancer.

mod adopt;
mod bent;
mod direct;
mod kills;
mod lifetime;
mod many;
mod order;
pub(crate) mod refusals;
mod slots;
