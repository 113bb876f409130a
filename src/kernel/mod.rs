//! What the kernel tells and takes: nothing in here knows of the balancer.

pub(crate) mod memory;
