//! Typed access to BPF maps. Nothing above this module handles raw bytes.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::atomic::Ordering;

use libbpf_rs::MapCore;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use libbpf_rs::MapType;

use crate::kernel::bpf;
use crate::kernel::bpf::ArrayMemory;
use crate::kernel::bpf::write_point;
use crate::kernel::outside::read_system;
use crate::model::abi::Pod;
use crate::model::abi::bytes_of;
use crate::model::abi::from_bytes;
pub use crate::model::error::MapError;
use crate::model::error::MapFailure;
use crate::model::parallel;

impl MapError {
    pub(crate) fn new(
        map: &str,
        operation: &'static str,
        source: impl Into<libbpf_rs::Error>,
    ) -> Self {
        let source = source.into();
        let failure = match source.kind() {
            libbpf_rs::ErrorKind::OutOfMemory => MapFailure::OutOfMemory,
            libbpf_rs::ErrorKind::NotFound => MapFailure::NotFound,
            libbpf_rs::ErrorKind::InvalidData => MapFailure::Layout,
            _ => MapFailure::Other,
        };
        Self::of(map, operation, failure, source.into())
    }

    pub(crate) fn layout(map: &str) -> Self {
        let what = "its keys or values have another size than this build expects";
        Self::new(map, "use it", std::io::Error::new(std::io::ErrorKind::InvalidData, what))
    }
}

type Result<T> = std::result::Result<T, MapError>;

/// A map from `K` to `V`, not per CPU.
pub(crate) struct Map<K, V> {
    handle: MapHandle,
    name: String,
    types: PhantomData<fn(K) -> V>,
}

impl<K, V> fmt::Debug for Map<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Map").field(&self.name).finish()
    }
}

impl<K: Pod, V: Pod> Map<K, V> {
    /// Wraps a map. Its sizes must be those of the types.
    pub(crate) fn new(handle: MapHandle) -> Result<Self> {
        let name = handle.name().to_string_lossy().into_owned();
        if handle.key_size() as usize != size_of::<K>()
            || handle.value_size() as usize != size_of::<V>()
        {
            return Err(MapError::layout(&name));
        }
        Ok(Self { handle, name, types: PhantomData })
    }

    pub(crate) fn open(path: &Path) -> Result<Self> {
        Self::new(open(path)?)
    }

    fn error(&self, operation: &'static str) -> impl Fn(libbpf_rs::Error) -> MapError {
        move |error| MapError::new(&self.name, operation, error)
    }

    pub(crate) fn handle(&self) -> &MapHandle {
        &self.handle
    }

    /// The error of a full map.
    pub(crate) fn full(&self) -> MapError {
        self.error("add to it")(std::io::Error::other("it is full").into())
    }

    pub(crate) fn get(&self, key: &K) -> Result<Option<V>> {
        let found = self.handle.lookup(bytes_of(key), MapFlags::ANY).map_err(self.error("read"))?;
        Ok(found.and_then(|bytes| from_bytes(&bytes)))
    }

    pub(crate) fn set(&self, key: &K, value: &V) -> Result<()> {
        write_point();
        self.handle
            .update(bytes_of(key), bytes_of(value), MapFlags::ANY)
            .map_err(self.error("write"))
    }

    /// Adds an entry, unless the key exists. Returns whether it was added.
    pub(crate) fn add(&self, key: &K, value: &V) -> Result<bool> {
        match self.handle.update(bytes_of(key), bytes_of(value), MapFlags::NO_EXIST) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == libbpf_rs::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(self.error("add to it")(error)),
        }
    }

    /// Removes an entry. Returns whether there was one.
    pub(crate) fn remove(&self, key: &K) -> Result<bool> {
        write_point();
        match self.handle.delete(bytes_of(key)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == libbpf_rs::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.error("delete from it")(error)),
        }
    }

    pub(crate) fn set_many(&self, entries: &[(K, V)]) -> Result<()> {
        // A count of zero would panic in libbpf-rs.
        let Ok(count @ 1..) = u32::try_from(entries.len()) else { return Ok(()) };
        write_point();
        let keys: Vec<u8> = entries.iter().flat_map(|(key, _)| bytes_of(key)).copied().collect();
        let values: Vec<u8> =
            entries.iter().flat_map(|(_, value)| bytes_of(value)).copied().collect();
        self.handle
            .update_batch(&keys, &values, count, MapFlags::ANY, MapFlags::ANY)
            .map_err(self.error("write to it"))
    }

    pub(crate) fn remove_many(&self, keys: &[K]) -> Result<()> {
        keys.iter().try_for_each(|key| self.remove(key).map(drop))
    }

    /// All entries. If packets change the map at the same time, some may be missing or come twice.
    pub(crate) fn entries(&self) -> Result<Vec<(K, V)>> {
        // A batch smaller than a hash bucket would silently lose entries.
        let batch = self.handle.max_entries().max(1);
        let entries = self
            .handle
            .lookup_batch(batch, MapFlags::ANY, MapFlags::ANY)
            .map_err(self.error("read"))?;
        Ok(entries
            .filter_map(|(key, value)| Some((from_bytes(&key)?, from_bytes(&value)?)))
            .collect())
    }

    /// All entries of a trie. The kernel reads tries in batches only since Linux 5.13.
    pub(crate) fn walk(&self) -> Result<Vec<(K, V)>> {
        // If the trie changes at the same time, the kernel may start over.
        let keys = self.handle.keys().take(self.handle.max_entries() as usize);
        let mut entries = Vec::new();
        for key in keys.filter_map(|key| from_bytes(&key)) {
            entries.extend(self.get(&key)?.map(|value| (key, value)));
        }
        Ok(entries)
    }

    /// The next entries of a hash table, some thousand; none: the walk is complete. If packets change the table at the
    /// same time, entries that exist during the whole walk come exactly once.
    pub(crate) fn next_entries(&self, walk: &mut Walk) -> Result<Vec<(K, V)>> {
        let mut entries = Vec::new();
        while entries.is_empty() && !walk.done {
            let read = bpf::hash_read(&self.handle, walk.behind, walk.at_once);
            let batch = match read {
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOSPC) => {
                    walk.at_once = walk.at_once.saturating_mul(2);
                    continue;
                }
                read => read.map_err(|error| MapError::new(&self.name, "read", error))?,
            };
            let keys = batch.keys.chunks_exact(size_of::<K>());
            let values = batch.values.chunks_exact(size_of::<V>());
            entries.extend(
                keys.zip(values)
                    .filter_map(|(key, value)| Some((from_bytes(key)?, from_bytes(value)?))),
            );
            // The position of a walk is the number of a bucket.
            let from = walk.behind.unwrap_or(0);
            walk.step = batch.last.unwrap_or(from).saturating_sub(from);
            walk.behind = batch.last;
            walk.done = batch.last.is_none();
        }
        Ok(entries)
    }

    /// As [`Self::entries`] of a hash table, without keeping all of them in memory.
    pub(crate) fn each_entry(&self, mut take: impl FnMut((K, V))) -> Result<()> {
        let mut walk = Walk::default();
        loop {
            let entries = self.next_entries(&mut walk)?;
            if entries.is_empty() {
                return Ok(());
            }
            entries.into_iter().for_each(&mut take);
        }
    }

    /// Passes every value of an array with `BPF_F_MMAPABLE` to a function, with its index.
    pub(crate) fn each_value(&self, mut take: impl FnMut(u32, V)) -> Result<()> {
        const { assert!(size_of::<V>() <= 64) };
        let memory = ArrayMemory::new(&self.handle)
            .map_err(|error| MapError::new(&self.name, "map its memory to read", error))?;
        let words = bpf::stride(&self.handle) / size_of::<u64>();
        // Room for the largest value, without an allocation.
        let mut bytes = [0; 64];
        for (index, value) in (0..).zip(memory.words().chunks_exact(words)) {
            for (word, bytes) in value.iter().zip(bytes.chunks_exact_mut(size_of::<u64>())) {
                bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
            }
            if let Some(value) = from_bytes(&bytes) {
                take(index, value);
            }
        }
        Ok(())
    }

    pub(crate) fn max_entries(&self) -> u32 {
        self.handle.max_entries()
    }

    /// The kernel's id of the map.
    pub(crate) fn id(&self) -> Result<u32> {
        id_of(&self.handle)
    }
}

/// The position of a walk through a hash table.
#[derive(Debug)]
pub(crate) struct Walk {
    behind: Option<u32>,
    at_once: u32,
    done: bool,
    /// The buckets of the last read.
    step: u32,
}

impl Walk {
    /// Skips this many times as many buckets as were read last.
    pub(crate) fn skip(&mut self, times: u32) {
        if let Some(behind) = &mut self.behind {
            *behind = behind.saturating_add(self.step.saturating_mul(times));
        }
    }
}

impl Default for Walk {
    fn default() -> Self {
        Self { behind: None, at_once: 4096, done: false, step: 0 }
    }
}

/// How much of a per-CPU array is read at once, unless a single index has more: with many CPUs, an array has
/// megabytes.
const BATCH_BYTES: usize = 1 << 16;

/// An array with separate values for each CPU.
pub(crate) struct PerCpuArray<V> {
    handle: MapHandle,
    name: String,
    /// The number of possible CPUs, online or not.
    cpus: usize,
    value: PhantomData<fn() -> V>,
}

impl<V> fmt::Debug for PerCpuArray<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PerCpuArray").field(&self.name).finish()
    }
}

impl<V: Pod> PerCpuArray<V> {
    pub(crate) fn new(handle: MapHandle) -> Result<Self> {
        let name = handle.name().to_string_lossy().into_owned();
        if handle.value_size() as usize != size_of::<V>() {
            return Err(MapError::layout(&name));
        }
        let cpus = crate::kernel::bpf::possible_cpus()
            .map_err(|error| MapError::new(&name, "count CPUs for", error))?;
        Ok(Self { handle, name, cpus, value: PhantomData })
    }

    pub(crate) fn open(path: &Path) -> Result<Self> {
        Self::new(open(path)?)
    }

    /// The value of each CPU.
    pub(crate) fn get(&self, index: u32) -> Result<Vec<V>> {
        let mut values = Vec::new();
        self.read(index..index + 1, |_, of_cpus| values.extend(of_cpus))?;
        Ok(values)
    }

    /// Passes these indices to a function, with the value of each CPU.
    pub(crate) fn each(
        &self,
        indices: &BTreeSet<u32>,
        mut take: impl FnMut(u32, &mut dyn Iterator<Item = V>),
    ) -> Result<()> {
        let at_once = self.at_once();
        let mut rest = indices.range(..self.handle.max_entries()).copied().peekable();
        while let Some(first) = rest.next() {
            let mut end = first + 1;
            while end - first < at_once && rest.next_if_eq(&end).is_some() {
                end += 1;
            }
            self.read(first..end, &mut take)?;
        }
        Ok(())
    }

    /// How many indices are read at once.
    fn at_once(&self) -> u32 {
        let fit = BATCH_BYTES / (bpf::stride(&self.handle) * self.cpus);
        u32::try_from(fit).unwrap_or(u32::MAX).max(1)
    }

    fn read(
        &self,
        indices: Range<u32>,
        mut take: impl FnMut(u32, &mut dyn Iterator<Item = V>),
    ) -> Result<()> {
        let stride = bpf::stride(&self.handle);
        let values = bpf::percpu_array_read(&self.handle, indices.clone())
            .map_err(|error| MapError::new(&self.name, "read", error))?;
        for (index, of_cpus) in indices.zip(values.chunks_exact(stride * self.cpus)) {
            take(index, &mut of_cpus.chunks_exact(stride).filter_map(from_bytes));
        }
        Ok(())
    }

    /// Sets the value of each possible CPU.
    pub(crate) fn set(&self, index: u32, values: &[V]) -> Result<()> {
        let values: Vec<_> = values.iter().map(|value| bytes_of(value).to_vec()).collect();
        self.handle
            .update_percpu(bytes_of(&index), &values, MapFlags::ANY)
            .map_err(|error| MapError::new(&self.name, "write", error))
    }

    /// Sets every CPU's value to zero.
    pub(crate) fn clear(&self, index: u32) -> Result<()> {
        write_point();
        let zeros = vec![bytes_of(&V::default()).to_vec(); self.cpus];
        self.handle
            .update_percpu(bytes_of(&index), &zeros, MapFlags::ANY)
            .map_err(|error| MapError::new(&self.name, "clear", error))
    }
}

/// An array of maps.
pub(crate) struct ArrayOfMaps {
    handle: MapHandle,
    name: String,
}

impl fmt::Debug for ArrayOfMaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ArrayOfMaps").field(&self.name).finish()
    }
}

impl ArrayOfMaps {
    pub(crate) fn new(handle: MapHandle) -> Self {
        let name = handle.name().to_string_lossy().into_owned();
        Self { handle, name }
    }

    /// The kernel's id of the map at an index.
    pub(crate) fn id_at(&self, index: u32) -> Result<Option<u32>> {
        id_at(&self.handle, &self.name, index)
    }

    /// The map at an index.
    pub(crate) fn at(&self, index: u32) -> Result<Option<MapHandle>> {
        let Some(id) = self.id_at(index)? else { return Ok(None) };
        self.inner(id).map(Some)
    }

    /// Opens a map that was at some index, by its id.
    pub(crate) fn inner(&self, id: u32) -> Result<MapHandle> {
        MapHandle::from_map_id(id)
            .map_err(|error| MapError::new(&self.name, "open an inner map of", error))
    }

    /// Replaces a map in one step, and waits until no packet uses the old one.
    pub(crate) fn set(&self, index: u32, map: &impl AsFd) -> Result<()> {
        write_point();
        self.handle
            .update(bytes_of(&index), bytes_of(&fd_value(map.as_fd())), MapFlags::ANY)
            .map_err(|error| MapError::new(&self.name, "put a map into", error))
    }

    /// As [`Self::set`] for several maps: each is replaced in one step. It waits once for all (before Linux 5.19:
    /// several times).
    pub(crate) fn set_many(&self, maps: &[(u32, MapHandle)]) -> Result<()> {
        if let [(index, map)] = maps {
            return self.set(*index, map);
        }
        let Ok(count @ 1..) = u32::try_from(maps.len()) else { return Ok(()) };
        write_point();
        let keys: Vec<u8> = maps.iter().flat_map(|(index, _)| index.to_ne_bytes()).collect();
        let fds: Vec<u8> =
            maps.iter().flat_map(|(_, map)| fd_value(map.as_fd()).to_ne_bytes()).collect();
        if self.handle.update_batch(&keys, &fds, count, MapFlags::ANY, MapFlags::ANY).is_ok() {
            return Ok(());
        }
        while_waiting(maps, |(index, map)| self.set(*index, map))
    }

    /// As [`Self::remove`] for several indices.
    pub(crate) fn remove_many(&self, indices: &[u32]) -> Result<()> {
        while_waiting(indices, |index| self.remove(*index).map(drop))
    }

    /// Removes a map. Returns whether there was one.
    pub(crate) fn remove(&self, index: u32) -> Result<bool> {
        if self.id_at(index)?.is_none() {
            return Ok(false);
        }
        write_point();
        match self.handle.delete(bytes_of(&index)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == libbpf_rs::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(MapError::new(&self.name, "take a map out of", error)),
        }
    }
}

/// Runs changes of maps of maps. After each, the kernel waits some milliseconds, until no packet uses the old map. No
/// call does this for many maps, but threads that wait at the same time share one wait.
fn while_waiting<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    const AT_ONCE: usize = 64;
    parallel::map_on(AT_ONCE, items, work).into_iter().collect()
}

/// An array of programs, for tail calls.
pub(crate) struct ProgramArray {
    handle: MapHandle,
    name: String,
}

impl fmt::Debug for ProgramArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProgramArray").field(&self.name).finish()
    }
}

impl ProgramArray {
    pub(crate) fn new(handle: MapHandle) -> Self {
        let name = handle.name().to_string_lossy().into_owned();
        Self { handle, name }
    }

    pub(crate) fn handle(&self) -> &MapHandle {
        &self.handle
    }

    pub(crate) fn open(path: &Path) -> Result<Self> {
        open(path).map(Self::new)
    }

    /// The kernel's id of the program at an index.
    pub(crate) fn id_at(&self, index: u32) -> Result<Option<u32>> {
        id_at(&self.handle, &self.name, index)
    }

    /// The kernel's id of the array itself.
    pub(crate) fn id(&self) -> Result<u32> {
        id_of(&self.handle)
    }

    pub(crate) fn set(&self, index: u32, program: BorrowedFd<'_>) -> Result<()> {
        write_point();
        self.handle
            .update(bytes_of(&index), bytes_of(&fd_value(program)), MapFlags::ANY)
            .map_err(|error| MapError::new(&self.name, "put a program into", error))
    }

    pub(crate) fn remove(&self, index: u32) -> Result<()> {
        write_point();
        match self.handle.delete(bytes_of(&index)) {
            Err(error) if error.kind() != libbpf_rs::ErrorKind::NotFound => {
                Err(MapError::new(&self.name, "take a program out of", error))
            }
            _ => Ok(()),
        }
    }
}

/// The kernel's id of what an array of maps or programs holds at an index.
fn id_at(array: &MapHandle, name: &str, index: u32) -> Result<Option<u32>> {
    let id = array
        .lookup(bytes_of(&index), MapFlags::ANY)
        .map_err(|error| MapError::new(name, "read", error))?;
    Ok(id.and_then(|bytes| from_bytes(&bytes)))
}

/// The kernel's id of a map.
pub(crate) fn id_of(map: &MapHandle) -> Result<u32> {
    let info = map.info();
    let info = info.map_err(|error| MapError::new(&map.name().to_string_lossy(), "ask for", error));
    Ok(info?.info.id)
}

/// Waits some milliseconds, until programs have finished all packets that they handle now. Later packets see what was
/// written before. The kernel waits so after each change of a map of maps.
pub(crate) fn wait_for_packets() -> Result<()> {
    const NAME: &str = "l4lb_wait";
    let inner = create_inner(NAME, MapType::Array, size_of::<u32>(), size_of::<u32>(), 1, 0, 0)?;
    let opts = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as _,
        inner_map_fd: fd_value(inner.as_fd()),
        ..Default::default()
    };
    let outer = MapHandle::create(MapType::ArrayOfMaps, Some(NAME), 4, 4, 1, &opts)
        .map_err(|error| MapError::new(NAME, "create it", error))?;
    ArrayOfMaps::new(outer).set(0, &inner)
}

/// A map or program is put into another map by its descriptor.
fn fd_value(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// Opens a pinned map.
pub(crate) fn open(path: &Path) -> Result<MapHandle> {
    MapHandle::from_pinned_path(path).map_err(|error| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        MapError::new(&name, "open its pin", error)
    })
}

/// The kernel's id of a map.
pub(crate) fn id(map: &MapHandle) -> Result<u32> {
    let name = || map.name().to_string_lossy().into_owned();
    map.info()
        .map(|info| info.info.id)
        .map_err(|error| MapError::new(&name(), "ask the kernel about it", error))
}

/// The first word of an array's first value, whatever its size.
pub(crate) fn first_word(array: &MapHandle) -> Result<u32> {
    let value = array
        .lookup(bytes_of(&0_u32), MapFlags::ANY)
        .map_err(|error| MapError::new(&array.name().to_string_lossy(), "read", error))?;
    Ok(value.and_then(|bytes| from_bytes(&bytes)).unwrap_or_default())
}

/// The memory of a map in bytes, as the kernel reports it: `memlock` of its fdinfo.
///
/// Linux before 6.4 only counts keys and values. libbpf-rs reads only 32 bits of the number.
pub(crate) fn kernel_bytes(map: &impl AsFd) -> Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd());
    let info = read_system(path.as_ref())
        .map_err(|error| MapError::new("of the instance", "read its size", error))?;
    let memlock = info.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok());
    Ok(memlock.unwrap_or_default())
}

/// Creates an array of programs that is not pinned. The kernel empties it once nobody holds its descriptor.
pub(crate) fn create_program_array(name: &'static str, max_entries: u32) -> Result<ProgramArray> {
    let size = size_of::<u32>();
    create_inner(name, MapType::ProgArray, size, size, max_entries, 0, 0).map(ProgramArray::new)
}

/// Creates a map for a map of maps, with type, sizes and flags of the outer map's prototype. The NUMA node matters
/// with `BPF_F_NUMA_NODE`; a kernel without NUMA has node 0.
pub(crate) fn create_inner(
    name: &'static str,
    kind: MapType,
    key_size: usize,
    value_size: usize,
    max_entries: u32,
    map_flags: u32,
    numa_node: u32,
) -> Result<MapHandle> {
    write_point();
    let opts = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as _,
        map_flags,
        numa_node,
        ..Default::default()
    };
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    MapHandle::create(kind, Some(name), size(key_size), size(value_size), max_entries, &opts)
        .map_err(|error| MapError::new(name, "create it", error))
}
