//! Commands that change an instance: apply and others, gateways, decapsulation, chains, flows.

pub(crate) mod chain;
pub(crate) mod chain_decap;
pub(crate) mod commands;
pub(crate) mod decap;
pub(crate) mod decapsulate;
pub(crate) mod drain;
pub(crate) mod drain_wait;
pub(crate) mod flow_effects;
pub(crate) mod flows;
pub(crate) mod gateway;
pub(crate) mod gateway_auto;
pub(crate) mod health;
pub(crate) mod health_kills;
pub(crate) mod interfaces;
pub(crate) mod kills;
pub(crate) mod linux_tunnels;
pub(crate) mod node;
pub(crate) mod partial;
pub(crate) mod partial_stays;
pub(crate) mod quickstart;
pub(crate) mod tunnel;
pub(crate) mod ways;
pub(crate) mod ways_kills;
