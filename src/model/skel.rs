//! The compiled BPF programs, one private module each, as libbpf-cargo generated them.

macro_rules! skeleton {
    ($name:ident, $file:literal) => {
        #[allow(
            unsafe_code,
            dead_code,
            missing_docs,
            missing_debug_implementations,
            unreachable_pub,
            clippy::pedantic,
            clippy::undocumented_unsafe_blocks,
            clippy::allow_attributes_without_reason,
            reason = "generated"
        )]
        pub(crate) mod $name {
            include!(concat!(env!("OUT_DIR"), $file));
        }
    };
}

skeleton!(root, "/root.skel.rs");
skeleton!(balancer, "/balancer.skel.rs");
skeleton!(decap, "/decap.skel.rs");
skeleton!(capture, "/capture.skel.rs");
skeleton!(copy, "/copy.skel.rs");
skeleton!(healthcheck, "/healthcheck.skel.rs");
skeleton!(mss, "/mss.skel.rs");
