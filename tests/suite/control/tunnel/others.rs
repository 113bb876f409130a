//! Programs and filters of others, and how it is attached.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;

use libbpf_rs::libbpf_sys;
use nix::net::if_::if_nametoindex;

use super::ask;
use super::ensure;
use super::is_gone;
use super::marks;
use super::rig;
use crate::fixtures::UPLINK;

/// A program that ends the packet's way through the programs of the interface: `TCX_PASS`.
#[expect(unsafe_code, reason = "libbpf-rs loads programs of object files only")]
fn passing() -> OwnedFd {
    let code = [
        libbpf_sys::bpf_insn { code: 0xb7, ..Default::default() },
        libbpf_sys::bpf_insn { code: 0x95, ..Default::default() },
    ];
    // SAFETY: all that is given lives until the call returns.
    let program = unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_SCHED_CLS,
            c"others".as_ptr(),
            c"GPL".as_ptr(),
            code.as_ptr(),
            code.len() as _,
            std::ptr::null_mut(),
        )
    };
    assert!(program >= 0, "load a program: {program}");
    // SAFETY: the kernel just returned it.
    unsafe { OwnedFd::from_raw_fd(program) }
}

/// Attaches a program on the way out of an interface.
#[expect(unsafe_code, reason = "libbpf-rs has no such call for a descriptor")]
fn attach(program: &OwnedFd, ifindex: u32) -> OwnedFd {
    // SAFETY: no options is a null pointer.
    let link = unsafe {
        libbpf_sys::bpf_link_create(
            program.as_fd().as_raw_fd(),
            ifindex.cast_signed(),
            libbpf_sys::BPF_TCX_EGRESS,
            std::ptr::null(),
        )
    };
    assert!(link >= 0, "attach a program: {link}");
    // SAFETY: the kernel just returned it.
    unsafe { OwnedFd::from_raw_fd(link) }
}

#[test]
fn programs_and_filters_of_others_stay_and_come_behind() {
    let rig = rig();
    let balancer = &rig.topology.balancer.ns;
    let others = passing();
    let link = balancer.open(|| attach(&others, if_nametoindex(UPLINK).expect("the interface")));
    balancer.shell(&format!(
        "tc qdisc add dev {UPLINK} clsact
         tc filter add dev {UPLINK} egress pref 7 protocol ip u32 match u32 0 0 flowid 1:1
         tc filter add dev {UPLINK} ingress pref 8 protocol ip u32 match u32 0 0 flowid 1:2"
    ));
    let filters = || {
        let list = |way| balancer.shell(&format!("tc filter show dev {UPLINK} {way}"));
        [list("egress"), list("ingress"), balancer.shell(&format!("tc qdisc show dev {UPLINK}"))]
    };
    let before = filters();
    ensure(&rig.bpffs, balancer, &super::addresses());
    assert_eq!(filters(), before);
    // The program of others ends the packet's way, so ours must have been in front of it.
    let (real, mark) = marks(&rig.bpffs).into_iter().next().expect("a real");
    let answer = ask(balancer, mark, SocketAddr::new(super::addresses()[0], 80));
    assert!(answer.is_ok(), "{real}: {answer:?}");

    rig.lbctl().ok(&["down"]);
    assert!(is_gone(&rig.bpffs));
    assert_eq!(filters(), before);
    drop(link);
}
