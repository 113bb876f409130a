//! The kernel's per-CPU buffers of events, as `bpf_perf_event_output` fills them.
//!
//! Bound by hand: libbpf-rs lets callers choose neither the CPUs nor when the reader is woken.
#![expect(unsafe_code, reason = "calls of C interfaces")]

use std::io;
use std::mem::offset_of;
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::raw::c_int;
use std::os::raw::c_void;
use std::ptr::NonNull;
use std::slice;
use std::time::Duration;

use libbpf_sys as sys;

/// An event, and the CPU that it comes from.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) cpu: u32,
    /// The data of the program, and at most 7 bytes of padding.
    pub(crate) bytes: Vec<u8>,
}

/// `PERF_RECORD_SAMPLE` with nothing but raw data.
#[repr(C)]
struct RawSample {
    header: sys::perf_event_header,
    size: u32,
    data: [u8; 0],
}

/// Reads the events of an array (`BPF_MAP_TYPE_PERF_EVENT_ARRAY`).
#[derive(Debug)]
pub(crate) struct PerfReader {
    buffer: NonNull<sys::perf_buffer>,
    /// Where the callback puts events.
    events: NonNull<Vec<Event>>,
}

// SAFETY: libbpf does not mind on which thread a buffer is used, and it is used by one at a time.
unsafe impl Send for PerfReader {}

impl PerfReader {
    /// Makes a buffer of this many pages, a power of two, for each of these CPUs, which must be online, and
    /// puts it into the array.
    pub(crate) fn new(array: BorrowedFd<'_>, pages: usize, cpus: &[u32]) -> io::Result<Self> {
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?.unwrap_or(4096);
        let bytes = pages.saturating_mul(usize::try_from(page).unwrap_or(4096));
        let mut attr = sys::perf_event_attr {
            type_: sys::PERF_TYPE_SOFTWARE,
            size: crate::kernel::bpf::size_u32::<sys::perf_event_attr>(),
            config: sys::PERF_COUNT_SW_BPF_OUTPUT.into(),
            sample_type: sys::PERF_SAMPLE_RAW.into(),
            ..Default::default()
        };
        attr.__bindgen_anon_1.sample_period = 1;
        // The kernel wakes the reader when a quarter is full, not for every packet. The reader also polls.
        attr.set_watermark(1);
        attr.__bindgen_anon_2.wakeup_watermark = u32::try_from(bytes / 4).unwrap_or(u32::MAX);
        let mut cpus: Vec<c_int> = cpus.iter().map(|cpu| cpu.cast_signed()).collect();
        let mut keys = cpus.clone();
        let opts = sys::perf_buffer_raw_opts {
            sz: size_of::<sys::perf_buffer_raw_opts>() as _,
            cpu_cnt: c_int::try_from(cpus.len()).unwrap_or(c_int::MAX),
            cpus: cpus.as_mut_ptr(),
            map_keys: keys.as_mut_ptr(),
            ..Default::default()
        };
        let events = NonNull::from(Box::leak(Box::<Vec<Event>>::default()));
        // SAFETY: everything that is pointed to lives until the call returns. `events` lives as long as the buffer.
        let buffer = unsafe {
            sys::perf_buffer__new_raw(
                array.as_raw_fd(),
                pages as _,
                &raw mut attr,
                Some(collect),
                events.as_ptr().cast(),
                &raw const opts,
            )
        };
        let Some(buffer) = NonNull::new(buffer) else {
            // Libbpf leaves the error there.
            let error = io::Error::last_os_error();
            // SAFETY: it was leaked above, and nobody else has it.
            drop(unsafe { Box::from_raw(events.as_ptr()) });
            return Err(error);
        };
        Ok(Self { buffer, events })
    }

    /// Waits until there is much to read, but no longer than this; a signal ends it.
    pub(crate) fn wait(&self, timeout: Duration) -> io::Result<()> {
        // SAFETY: the buffer is alive.
        let fd = unsafe { sys::perf_buffer__epoll_fd(self.buffer.as_ptr()) };
        // SAFETY: the descriptor belongs to the buffer, which is alive until the borrow ends.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let timeout = u16::try_from(timeout.as_millis()).unwrap_or(u16::MAX);
        let mut fds = [nix::poll::PollFd::new(fd, nix::poll::PollFlags::POLLIN)];
        match nix::poll::poll(&mut fds, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Reads the events that are there now, CPU by CPU.
    pub(crate) fn read(&mut self) -> io::Result<Vec<Event>> {
        // SAFETY: the buffer is alive, and nobody uses `events` while libbpf calls back.
        crate::kernel::bpf::check(unsafe { sys::perf_buffer__consume(self.buffer.as_ptr()) })?;
        // SAFETY: libbpf has returned.
        Ok(std::mem::take(unsafe { self.events.as_mut() }))
    }
}

impl Drop for PerfReader {
    fn drop(&mut self) {
        // SAFETY: nobody else frees it.
        unsafe { sys::perf_buffer__free(self.buffer.as_ptr()) }
        // SAFETY: it was leaked by `new`, and libbpf, which had it, has no buffer any more.
        drop(unsafe { Box::from_raw(self.events.as_ptr()) });
    }
}

/// Called back by libbpf for every record.
unsafe extern "C" fn collect(
    events: *mut c_void,
    cpu: c_int,
    record: *mut sys::perf_event_header,
) -> sys::bpf_perf_event_ret {
    // SAFETY: the pointer that was given to libbpf, which uses it in `PerfReader::read` only.
    let events = unsafe { &mut *events.cast::<Vec<Event>>() };
    // SAFETY: libbpf hands over whole records.
    let header = unsafe { &*record };
    // The program itself counts lost events, so their records are ignored.
    if header.type_ == sys::PERF_RECORD_SAMPLE {
        let room = usize::from(header.size).saturating_sub(offset_of!(RawSample, data));
        // SAFETY: a sample of raw data, as was asked for, which is as long as its header says.
        let bytes = unsafe {
            let sample = record.cast::<RawSample>();
            let size = (*sample).size as usize;
            slice::from_raw_parts((&raw const (*sample).data).cast::<u8>(), size.min(room))
        };
        events.push(Event { cpu: cpu.cast_unsigned(), bytes: bytes.to_vec() });
    }
    sys::LIBBPF_PERF_EVENT_CONT
}
