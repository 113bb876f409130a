//! `BPF_PROG_TEST_RUN`: runs XDP programs on a frame that was not received.
#![expect(unsafe_code, reason = "calls of C interfaces")]

use std::io;
use std::mem::size_of;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;

use libbpf_sys as sys;

use crate::kernel::bpf::check;
use crate::kernel::bpf::len_u32;
use crate::kernel::bpf::size_u32;
use crate::kernel::program::load_measuring;
use crate::model::error::Error;
use crate::model::error::Result;
pub(crate) use crate::model::error::SHORTEST_FRAME;

/// The interface that `BPF_PROG_TEST_RUN` reports for its frames by default.
pub(crate) const LOOPBACK: u32 = 1;

/// No packet with its Ethernet header and VLAN tags is this long.
const NEVER_THAT_LONG: usize = 1 << 17;

/// Room for headers that a program puts in front of a frame.
const HEADROOM: usize = 256;

/// What a program did with a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TestRun {
    /// `XDP_*`.
    pub(crate) action: u32,
    /// The frame afterwards.
    pub(crate) frame: Vec<u8>,
}

/// Runs an XDP program on one frame, behind `metadata` bytes of driver metadata (a multiple of 4), as if it arrived at
/// an interface of this network namespace. Refuses frames that [`check_frame`] refuses.
pub(crate) fn test_run(
    program: BorrowedFd<'_>,
    frame: &[u8],
    metadata: u32,
    ingress_ifindex: u32,
) -> Result<TestRun> {
    check_frame(frame)?;
    run(program, frame, metadata, ingress_ifindex)
        .map_err(|source| Error::Host { operation: "run the program over a frame", source })
}

/// An error unless programs can run on the frame and see all of it.
///
/// The kernel puts at most a page, less headroom and tailroom, in one piece. Programs see only the beginning of a
/// longer frame, as if it ended there (since Linux 5.18; older kernels refuse such frames).
pub(crate) fn check_frame(frame: &[u8]) -> Result<()> {
    static LONGEST: OnceLock<usize> = OnceLock::new();

    let length = frame.len();
    if length < SHORTEST_FRAME {
        return Err(Error::FrameTooShort { length });
    }
    let longest = if let Some(longest) = LONGEST.get() {
        *longest
    } else {
        let found = longest_frame().map_err(|source| Error::Host {
            operation: "find out how long frames for BPF_PROG_TEST_RUN can be",
            source,
        })?;
        *LONGEST.get_or_init(|| found)
    };
    if length > longest {
        return Err(Error::FrameTooLong { length, longest });
    }
    Ok(())
}

/// The longest frame that a program sees all of. It depends on the page, and on the size of a struct that the
/// kernel's configuration changes (`struct skb_shared_info`); not on driver metadata, which is headroom.
fn longest_frame() -> io::Result<usize> {
    let program = load_measuring()?;
    let frame = vec![0; NEVER_THAT_LONG];
    let seen = |length: usize| run(program.as_fd(), &frame[..length], 0, LOOPBACK);
    let whole = |length| seen(length).is_ok_and(|run| run.action as usize == length);
    seen(SHORTEST_FRAME)?;
    let (mut fits, mut too_long) = (SHORTEST_FRAME, NEVER_THAT_LONG);
    while too_long - fits > 1 {
        let middle = fits.midpoint(too_long);
        if whole(middle) { fits = middle } else { too_long = middle }
    }
    Ok(fits)
}

fn run(
    program: BorrowedFd<'_>,
    frame: &[u8],
    metadata: u32,
    ingress_ifindex: u32,
) -> io::Result<TestRun> {
    let mut input = vec![0_u8; metadata as usize];
    input.extend_from_slice(frame);
    let mut output = vec![0_u8; input.len() + HEADROOM];
    let mut context = sys::xdp_md {
        data: metadata,
        data_end: len_u32(&input),
        ingress_ifindex,
        ..Default::default()
    };
    let mut opts = sys::bpf_test_run_opts {
        sz: size_of::<sys::bpf_test_run_opts>() as _,
        data_in: input.as_ptr().cast(),
        data_size_in: len_u32(&input),
        data_out: output.as_mut_ptr().cast(),
        data_size_out: len_u32(&output),
        ..Default::default()
    };
    // By default, frames arrive at the loopback interface.
    let plain = metadata == 0 && ingress_ifindex == LOOPBACK;
    if !plain {
        opts.ctx_in = (&raw const context).cast();
        opts.ctx_size_in = size_u32::<sys::xdp_md>();
        opts.ctx_out = (&raw mut context).cast();
        opts.ctx_size_out = opts.ctx_size_in;
    }
    // SAFETY: all buffers that `opts` names live until the call returns, with the sizes it gives.
    check(unsafe { sys::bpf_prog_test_run_opts(program.as_fd().as_raw_fd(), &raw mut opts) })?;
    output.truncate(opts.data_size_out as usize);
    let frame_start = if plain { 0 } else { (context.data as usize).min(output.len()) };
    Ok(TestRun { action: opts.retval, frame: output.split_off(frame_start) })
}
