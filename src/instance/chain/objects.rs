//! Loads programs of others from object files. Keeps the object beside the program, so that `lbctl` can load it
//! again.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use libbpf_rs::MapCore;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use libbpf_rs::MapType;
use libbpf_rs::ObjectBuilder;
use libbpf_rs::OpenMapMut;
use libbpf_rs::OpenObject;
use libbpf_rs::btf::Btf;
use nix::fcntl::OFlag;

use crate::instance::Instance;
use crate::instance::chain::pins::NEXT;
use crate::instance::chain::pins::base;
use crate::instance::chain::place;
use crate::instance::own_programs::CHAIN_MAPS;
use crate::instance::pin_error;
use crate::instance::programs::bind;
use crate::instance::programs::clone_fd;
use crate::instance::programs::is_own_data;
use crate::instance::programs::load_error;
use crate::instance::programs::route_messages;
use crate::instance::remove_folder;
use crate::instance::remove_pin;
use crate::kernel::bpf;
use crate::kernel::bpf::write_point;
use crate::kernel::maps;
use crate::kernel::maps::MapError;
use crate::model::error::ChainError;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::text::quote;

/// The largest value that a map can have (`KMALLOC_MAX_SIZE` before Linux 6.1).
const MAX_OBJECT: usize = 4 << 20;

/// The longest name of a file, in characters.
const LONGEST_NAME: usize = 200;

/// The kernel's name for a map that keeps an object.
pub(crate) const KEPT: &str = "l4lb_object";

/// An object file, and its program that goes into the chain.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    /// The path that it was read from, for errors.
    path: PathBuf,
    bytes: Vec<u8>,
    /// The C function.
    program: String,
}

impl Object {
    /// Reads a file. If it has several programs, `program` says which one.
    pub(crate) fn read(path: &Path, program: Option<&str>) -> Result<Self> {
        let mut object = Self { path: path.to_owned(), bytes: Vec::new(), program: String::new() };
        let failed = |source| ChainError::Read { path: path.to_owned(), source };
        // Opening a pipe would block until somebody writes to it.
        let flags = OFlag::O_NONBLOCK.bits();
        let file = File::options().read(true).custom_flags(flags).open(path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(object.error("it is no regular file"));
        }
        file.take(MAX_OBJECT as u64 + 1).read_to_end(&mut object.bytes).map_err(failed)?;
        if object.bytes.len() > MAX_OBJECT {
            return Err(object.error(format!("it is larger than {} MiB", MAX_OBJECT >> 20)));
        }
        object.program = object.pick(program)?;
        Ok(object)
    }

    /// The C function of its program.
    pub(crate) fn program(&self) -> &str {
        &self.program
    }

    fn error(&self, why: impl Into<String>) -> Error {
        ChainError::Object { path: self.path.clone(), why: why.into() }.into()
    }

    fn open(&self, name: &str) -> Result<OpenObject> {
        let _messages = route_messages();
        let error = load_error(name);
        let mut builder = ObjectBuilder::default();
        builder.name(name).and_then(|builder| builder.open_memory(&self.bytes)).map_err(|why| {
            match error(why) {
                Error::Load { why, .. } => self.error(format!("it is no BPF object: {why}")),
                other => other,
            }
        })
    }

    /// The names become names of pins. The kernel accepts no other characters.
    fn check_name(&self, kind: &str, name: &OsStr) -> Result<()> {
        let bytes = name.as_encoded_bytes();
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
        if !bytes.is_empty() && bytes.len() <= LONGEST_NAME && bytes.iter().all(is_plain) {
            return Ok(());
        }
        let name = name.to_string_lossy();
        Err(self.error(format!(
            "its {kind} '{}' has a name of other characters than letters, digits, '_' and '.', or of more than \
             {LONGEST_NAME}",
            quote(&name)
        )))
    }

    /// Finds the program.
    fn pick(&self, asked: Option<&str>) -> Result<String> {
        let open = self.open("object")?;
        for map in open.maps() {
            self.check_name("map", map.name())?;
        }
        for program in open.progs() {
            self.check_name("program", program.name())?;
        }
        let programs: Vec<_> = open
            .progs()
            .map(|program| {
                let text = |text: &OsStr| text.to_string_lossy().into_owned();
                (text(program.name()), text(program.section()))
            })
            .filter(|(name, _)| asked.is_none_or(|asked| asked == name))
            .collect();
        let plain: Vec<_> = programs.iter().filter(|(_, section)| section == "xdp").collect();
        match (&plain[..], asked) {
            ([(name, _)], _) => return Ok(name.clone()),
            ([], _) => {}
            (several, _) => {
                let names: Vec<_> = several.iter().map(|(name, _)| name.as_str()).collect();
                return Err(self.error(format!(
                    "it has several programs ({}): say which one with --program",
                    names.join(", ")
                )));
            }
        }
        if let Some((name, _)) = programs.iter().find(|(_, section)| section == "xdp.frags") {
            return Err(self.error(format!(
                "program '{name}' is SEC(\"xdp.frags\"), and the programs of a chain are SEC(\"xdp\"): one \
                 program array cannot hold both; build it as SEC(\"xdp\")"
            )));
        }
        Err(self.error(match asked {
            Some(asked) => format!("it has no program '{}' of SEC(\"xdp\")", quote(asked)),
            None => "it has no program of SEC(\"xdp\")".to_owned(),
        }))
    }

    /// Loads the program for a place in the chain. If a program of this name exists, the new one shares its maps. It
    /// also takes over that program's own data, if `running` is the same program.
    pub(crate) fn load(
        &self,
        instance: &Instance,
        name: &str,
        place: u32,
        running: Option<BorrowedFd<'_>>,
    ) -> Result<(OwnedFd, BTreeSet<String>)> {
        write_point();
        let _messages = route_messages();
        let error = load_error(name);
        let mut open = self.open(name)?;
        for mut program in open.progs_mut() {
            program.set_autoload(program.name() == self.program.as_str());
        }
        let at = Btf::from_raw(name, &self.bytes)
            .ok()
            .flatten()
            .and_then(|btf| place::offset(&btf))
            .ok_or_else(|| self.no_contract("variable 'l4lb_slot'"))?;
        for shared in CHAIN_MAPS {
            if !open.maps().any(|map| map.name() == shared) {
                return Err(self.no_contract(&format!("map '{shared}'")));
            }
        }
        let data = running.map_or_else(|| Ok(Vec::new()), own_data)?;
        let mut names = BTreeSet::new();
        for mut map in open.maps_mut() {
            let map_name = map.name().to_string_lossy().into_owned();
            if map_name.ends_with(".rodata") {
                let slot = map.initial_value_mut().and_then(|data| data.get_mut(at..at + 4));
                slot.ok_or_else(|| self.no_contract("variable 'l4lb_slot'"))?
                    .copy_from_slice(&place.to_ne_bytes());
            } else if is_own_data(map.name()) {
                let is_it = |old: &&MapHandle| is_name_of(old.name(), &map_name);
                if let Some(old) = data.iter().find(is_it) {
                    map.reuse_fd(old.as_fd()).map_err(&error)?;
                }
            } else if CHAIN_MAPS.contains(&map_name.as_str()) {
                map.set_pin_path(instance.map(&map_name)).map_err(&error)?;
            } else {
                let pin = instance.maps_of(name).join(&map_name);
                if pin.exists() && !is_alike(&map, &maps::open(&pin)?) {
                    let name = name.to_owned();
                    return Err(ChainError::MapChanged { name, map: map_name }.into());
                }
                map.set_pin_path(pin).map_err(&error)?;
                names.insert(map_name);
            }
        }
        let loaded = open.load().map_err(&error)?;
        let program = loaded.progs().find(|program| program.name() == self.program.as_str());
        let program = program.ok_or_else(|| self.error("its program is gone"))?;
        Objects::new(instance).bind(name, program.as_fd(), &names);
        Ok((clone_fd(program.as_fd())?, names))
    }

    fn no_contract(&self, what: &str) -> Error {
        self.error(format!(
            "it has no {what}: programs of a chain include l4lb/chain.h and end with 'return l4lb_hand_on(ctx)'"
        ))
    }
}

/// The data that a program does not share, except for data that it can only read.
fn own_data(program: BorrowedFd<'_>) -> Result<Vec<MapHandle>> {
    let info = bpf::program_info(program)
        .map_err(|source| Error::Host { operation: "ask the kernel about a program", source })?;
    let maps = info.maps.into_iter().filter_map(|id| MapHandle::from_map_id(id).ok());
    Ok(maps.filter(|map| is_own_data(map.name()) && is_variable(map.name())).collect())
}

fn is_variable(map: &OsStr) -> bool {
    let name = map.to_string_lossy();
    !name.contains(".rodata") && !name.contains(".kconfig")
}

/// Whether this is the kernel's name of the map. The kernel keeps 15 bytes of a name.
fn is_name_of(kernels: &OsStr, name: &str) -> bool {
    kernels.as_encoded_bytes() == &name.as_bytes()[..name.len().min(15)]
}

/// Whether an existing map matches its definition in the object, where the object defines something.
fn is_alike(open: &OpenMapMut<'_>, there: &MapHandle) -> bool {
    let info = there.info().map(|info| info.info.map_flags);
    let size = |ours: u32, theirs: u32| ours == 0 || ours == theirs;
    // The kernel rounds up the size of a ring buffer.
    let entries =
        open.map_type() == MapType::RingBuf || size(open.max_entries(), there.max_entries());
    open.map_type() == there.map_type()
        && size(open.key_size(), there.key_size())
        && size(open.value_size(), there.value_size())
        && entries
        && info.is_ok_and(|flags| flags == open.map_flags())
}

/// The objects and maps of other programs in the chain.
#[derive(Debug)]
pub(crate) struct Objects<'i>(&'i Instance);

impl<'i> Objects<'i> {
    pub(crate) fn new(instance: &'i Instance) -> Self {
        Self(instance)
    }

    /// Keeps an object for the program that will replace `name`.
    pub(crate) fn keep(&self, name: &str, object: &Object) -> Result<()> {
        // The first line is the program's name, because an object may have several programs.
        let value = [object.program.as_bytes(), b"\n", &object.bytes].concat();
        let pin = self.0.object(&format!("{name}{NEXT}"));
        remove_pin(&pin)?;
        let map = maps::create_inner(KEPT, MapType::Array, size_of::<u32>(), value.len(), 1, 0, 0)?;
        map.update(&0_u32.to_ne_bytes(), &value, MapFlags::ANY)
            .and_then(|()| map.freeze())
            .map_err(|error| MapError::new(KEPT, "write", error))?;
        bpf::pin(map.as_fd(), &pin).map_err(|source| pin_error("pin", &pin, source))
    }

    /// The object of a program; `None`: the program was not loaded from an object.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Object>> {
        let path = self.0.object(name);
        if !path.exists() {
            return Ok(None);
        }
        read_kept(&maps::open(&path)?, path).map(Some)
    }

    /// The programs for which an object is kept.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names = entries(&self.0.dir().join("object"));
        names.retain(|name| base(name) == name);
        names
    }

    /// The names of a program's maps, as its object defines them. If the id `kept` is known, this reads the object with
    /// that id. Empty: no object can be read.
    pub(crate) fn map_names(&self, name: &str, kept: Option<u32>) -> Vec<String> {
        let kept = kept.and_then(|id| MapHandle::from_map_id(id).ok());
        let object = match kept {
            Some(kept) => read_kept(&kept, self.0.object(name)).ok(),
            None => self.read(name).ok().flatten(),
        };
        let Some(open) = object.and_then(|object| object.open(name).ok()) else {
            return Vec::new();
        };
        open.maps().map(|map| map.name().to_string_lossy().into_owned()).collect()
    }

    /// Binds the object and the maps to the program. Commands then find them by the program if their pins are gone.
    fn bind(&self, name: &str, program: BorrowedFd<'_>, maps: &BTreeSet<String>) {
        let kept = [format!("{name}{NEXT}"), name.to_owned()];
        let object = kept.iter().map(|name| self.0.object(name)).find(|path| path.exists());
        let maps = maps.iter().map(|map| self.0.maps_of(name).join(map));
        bind(program, object.into_iter().chain(maps).filter_map(|path| maps::open(&path).ok()));
    }

    /// Gives `name` the object that was kept for its replacement, if there is one.
    pub(crate) fn commit(&self, name: &str) -> Result<()> {
        let new = self.0.object(&format!("{name}{NEXT}"));
        if !new.exists() {
            return Ok(());
        }
        write_point();
        fs::rename(&new, self.0.object(name)).map_err(|source| pin_error("rename", &new, source))
    }

    /// Removes the maps of a program, except for those named in `kept`.
    pub(crate) fn remove_maps_but(&self, name: &str, kept: &BTreeSet<String>) -> Result<()> {
        entries(&self.0.maps_of(name))
            .into_iter()
            .filter(|map| !kept.contains(map))
            .try_for_each(|map| remove_pin(&self.0.maps_of(name).join(map)))
    }

    /// Removes the objects and the maps of a program.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        remove_pin(&self.0.object(&format!("{name}{NEXT}")))?;
        remove_pin(&self.0.object(name))?;
        let maps = self.0.maps_of(name);
        if maps.is_dir() { remove_folder(&maps) } else { Ok(()) }
    }

    /// Removes the objects and the maps of programs that have no pin.
    pub(crate) fn remove_but(&self, pins: &[String]) -> Result<()> {
        let has_pin = |name: &str| pins.iter().any(|pin| pin == name || base(pin) == name);
        for object in entries(&self.0.dir().join("object")) {
            if !has_pin(&object) {
                remove_pin(&self.0.object(&object))?;
            }
        }
        for map in entries(&self.0.dir().join("map")) {
            let path = self.0.maps_of(&map);
            if path.is_dir() && !has_pin(&map) {
                remove_folder(&path)?;
            }
        }
        Ok(())
    }
}

/// Reads an object from the map that keeps it.
fn read_kept(map: &MapHandle, path: PathBuf) -> Result<Object> {
    let value = map
        .lookup(&0_u32.to_ne_bytes(), MapFlags::ANY)
        .map_err(|error| MapError::new(KEPT, "read", error))?
        .unwrap_or_default();
    let end = value.iter().position(|byte| *byte == b'\n').unwrap_or_default();
    let program = String::from_utf8_lossy(&value[..end]).into_owned();
    let bytes = value.get(end + 1..).unwrap_or_default().to_vec();
    Ok(Object { path, bytes, program })
}

fn entries(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
