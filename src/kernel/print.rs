//! Libbpf's messages during our calls to it.
//!
//! Libbpf has one callback for the whole process, and the process may be a service with its own callback. Ours is set
//! only around our calls, and handles the messages of the threads that make these calls. It passes other messages on
//! to the previous callback. A message can contain bytes of object files that are not text. libbpf-rs's own callback
//! takes them for UTF-8 and panics otherwise, and a panic in a function that C calls aborts the process.
#![expect(unsafe_code, reason = "calls of C interfaces")]

use std::cell::Cell;
use std::ffi::c_char;
use std::ffi::c_int;
use std::ffi::c_void;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use libbpf_sys as sys;

/// The severity of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Warning,
    Other,
}

/// The handler of a thread's messages.
pub(crate) type Handler = fn(Level, &str);

/// Room for a warning with a verifier's log: libbpf asks the kernel for a log of this size. If a process cannot have
/// that much memory, it gets `LITTLE_ROOM`. Memory that is not written to costs nothing.
const ROOM: usize = (16 << 20) + 4096;
const LITTLE_ROOM: usize = 64 << 10;

/// Room for all other messages.
const LINE: usize = 4096;

/// The type of libbpf's callback. bindgen gives the list of arguments another type on each platform. By the calling
/// convention it always is a pointer.
type Callback = unsafe extern "C" fn(sys::libbpf_print_level, *const c_char, *mut c_void) -> c_int;

unsafe extern "C" {
    /// The function of C, with the list of arguments as a pointer.
    fn vsnprintf(
        buffer: *mut c_char,
        size: usize,
        format: *const c_char,
        arguments: *mut c_void,
    ) -> c_int;
}

/// The users of our callback, and the callback before it.
struct State {
    users: usize,
    before: Option<Callback>,
}

static STATE: Mutex<State> = Mutex::new(State { users: 0, before: None });

thread_local! {
    static HANDLER: Cell<Option<Handler>> = const { Cell::new(None) };
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sets libbpf's callback, and returns the one before.
fn set(callback: Option<Callback>) -> Option<Callback> {
    // SAFETY: both are pointers to functions, or none, with the same arguments: see `Callback`.
    let callback =
        unsafe { std::mem::transmute::<Option<Callback>, sys::libbpf_print_fn_t>(callback) };
    // SAFETY: the callback can be called at any time from any thread.
    let before = unsafe { sys::libbpf_set_print(callback) };
    // SAFETY: as above.
    unsafe { std::mem::transmute::<sys::libbpf_print_fn_t, Option<Callback>>(before) }
}

/// While it lives, a handler gets libbpf's messages of this thread. Several may live at a time.
#[derive(Debug)]
pub(crate) struct Messages {
    before: Option<Handler>,
    /// It belongs to this thread.
    here: std::marker::PhantomData<*const ()>,
}

impl Messages {
    pub(crate) fn to(handler: Handler) -> Self {
        let mut state = state();
        if state.users == 0 {
            state.before = set(Some(callback));
        }
        state.users += 1;
        let before = HANDLER.with(|now| now.replace(Some(handler)));
        Self { before, here: std::marker::PhantomData }
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        HANDLER.with(|now| now.set(self.before));
        let mut state = state();
        state.users -= 1;
        if state.users > 0 {
            return;
        }
        let now = set(state.before.take());
        // Somebody set another callback in between. It stays.
        if now.is_some_and(|now| !std::ptr::fn_addr_eq(now, callback as Callback)) {
            set(now);
        }
    }
}

/// What libbpf calls.
unsafe extern "C" fn callback(
    level: sys::libbpf_print_level,
    format: *const c_char,
    arguments: *mut c_void,
) -> c_int {
    let handler = HANDLER.try_with(Cell::get).ok().flatten();
    let Some(handler) = handler else {
        let before = state().before;
        // SAFETY: whoever set it expects calls with these arguments.
        return before.map_or(0, |before| unsafe { before(level, format, arguments) });
    };
    // If a handler panics, only its last line is lost.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let (level, room) = match level {
            sys::LIBBPF_WARN => (Level::Warning, ROOM),
            _ => (Level::Other, LINE),
        };
        let mut text = Vec::<u8>::new();
        if text.try_reserve_exact(room).is_err() && text.try_reserve_exact(LITTLE_ROOM).is_err() {
            return;
        }
        // SAFETY: the buffer has room for that many bytes; format and arguments are libbpf's, for one call.
        let length =
            unsafe { vsnprintf(text.as_mut_ptr().cast(), text.capacity(), format, arguments) };
        let written = usize::try_from(length).unwrap_or(0).min(text.capacity() - 1);
        // SAFETY: that many bytes were written, and one more, which ends the text.
        unsafe { text.set_len(written) };
        handler(level, &String::from_utf8_lossy(&text));
    }));
    0
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    use super::*;

    static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
    static OTHERS: AtomicUsize = AtomicUsize::new(0);
    static LATER: AtomicUsize = AtomicUsize::new(0);

    unsafe extern "C" fn others(
        _: sys::libbpf_print_level,
        _: *const c_char,
        _: *mut c_void,
    ) -> c_int {
        OTHERS.fetch_add(1, Ordering::Relaxed);
        0
    }

    unsafe extern "C" fn later(
        _: sys::libbpf_print_level,
        _: *const c_char,
        _: *mut c_void,
    ) -> c_int {
        LATER.fetch_add(1, Ordering::Relaxed);
        0
    }

    /// Makes libbpf complain that bytes are no object.
    fn complain() {
        let opts = sys::bpf_object_open_opts {
            sz: size_of::<sys::bpf_object_open_opts>() as _,
            object_name: c"\xff\xfe\x1b[2J".as_ptr(),
            ..Default::default()
        };
        let bytes = [0_u8; 64];
        // SAFETY: both live for the call, and it fails.
        let object =
            unsafe { sys::bpf_object__open_mem(bytes.as_ptr().cast(), 64, &raw const opts) };
        assert!(object.is_null());
    }

    /// A handler gets messages that are not UTF-8, too. A panic of a handler stays in it. The previous callback is back
    /// at the end, and gets the messages of other threads all along.
    #[test]
    fn messages_go_where_they_belong() {
        // Other tests of this process use libbpf: their messages go to the previous callback.
        let real = set(Some(others));
        {
            let keep = |_: Level, text: &str| SAID.lock().unwrap().push(text.to_owned());
            let _outer = Messages::to(keep);
            complain();
            let said = SAID.lock().unwrap().concat();
            assert!(said.contains('\u{fffd}'), "{said}");
            {
                let _inner = Messages::to(|_, _| panic!("a test wants that"));
                complain();
            }
            let before = SAID.lock().unwrap().len();
            complain();
            assert!(SAID.lock().unwrap().len() > before, "the outer one again");
            let before = OTHERS.load(Ordering::Relaxed);
            std::thread::scope(|scope| scope.spawn(complain).join()).unwrap();
            assert!(OTHERS.load(Ordering::Relaxed) > before, "another thread's message");
        }
        let before = OTHERS.load(Ordering::Relaxed);
        complain();
        assert!(OTHERS.load(Ordering::Relaxed) > before, "it is back");
        // If somebody sets a callback meanwhile, it stays.
        let ours = Messages::to(|_, _| {});
        set(Some(later));
        drop(ours);
        let before = LATER.load(Ordering::Relaxed);
        complain();
        assert!(LATER.load(Ordering::Relaxed) > before, "the one that was set last");
        set(real);
    }
}
