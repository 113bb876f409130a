//! Asks the kernel which place a program has in the chain, and whether a chain can hold it at all.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;

use libbpf_rs::MapCore;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use libbpf_rs::MapType;
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::DataSec;
use libbpf_rs::btf::types::Var;

use crate::kernel::bpf;
use crate::kernel::maps::ProgramArray;
use crate::kernel::program::Variant;
use crate::kernel::program::load_passing;
use crate::model::error::Error;
use crate::model::error::Result;

/// What chain.h calls the variable with a program's place.
const VARIABLE: &str = "l4lb_slot";

/// Where the variable lies in the read-only data.
pub(crate) fn offset(btf: &Btf<'_>) -> Option<usize> {
    let section: DataSec<'_> = btf.type_by_name(".rodata")?;
    let is_it = |ty| {
        let var: Option<Var<'_>> = btf.type_by_id(ty);
        var.is_some_and(|var| var.name().is_some_and(|name| name == VARIABLE))
    };
    let mut members = section.iter();
    members.find(|member| is_it(member.ty)).map(|member| member.offset as usize)
}

/// The place of a program, by the kernel's id; `None`: the program does not follow the contract, or is gone.
pub(crate) fn of(id: u32) -> Result<Option<u32>> {
    let Some(rodata) = rodata(id)? else { return Ok(None) };
    let Ok(btf) = Btf::from_prog_id(id) else { return Ok(None) };
    let place = offset(&btf).and_then(|at| rodata.get(at..at + size_of::<u32>())?.try_into().ok());
    Ok(place.map(u32::from_ne_bytes))
}

/// The read-only data of a program, by the kernel's id.
pub(crate) fn rodata(id: u32) -> Result<Option<Vec<u8>>> {
    let info = bpf::program_by_id(id).and_then(|program| bpf::program_info(program.as_fd()));
    let info = match info {
        Ok(info) => info,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(Error::Host { operation: "ask the kernel about a program", source });
        }
    };
    for id in info.maps {
        let Ok(map) = MapHandle::from_map_id(id) else { continue };
        if map.name().to_string_lossy().ends_with(".rodata") {
            return Ok(map.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY).ok().flatten());
        }
    }
    Ok(None)
}

/// Why the kernel refuses to put a program into one array with those of a chain; `None`: it accepts the program.
pub(crate) fn misfit(program: BorrowedFd<'_>) -> Result<Option<String>> {
    let Err(error) = fits(program, Variant::Xdp)? else { return Ok(None) };
    let why = if fits(program, Variant::Frags)?.is_ok() {
        "it is of type \"xdp.frags\", and the programs of a chain are of type \"xdp\": one program array cannot \
         hold both"
            .to_owned()
    } else if fits(program, Variant::Untyped)?.is_ok() {
        "it was loaded without an expected attach type, which libbpf sets: this kernel puts such programs into \
         arrays of their own"
            .to_owned()
    } else {
        format!(
            "the kernel puts it into no program array ({error}): another program extends it, it is bound to a \
             device, or it is not compiled as the others are (net.core.bpf_jit_enable)"
        )
    };
    Ok(Some(why))
}

/// Whether an array that holds a program of this variant accepts this program, too.
fn fits(program: BorrowedFd<'_>, variant: Variant) -> Result<io::Result<()>> {
    let Ok(ours) = load_passing(variant) else {
        // This kernel has no programs of this variant.
        return Ok(Err(io::ErrorKind::Unsupported.into()));
    };
    let opts = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as _,
        ..Default::default()
    };
    let array = MapHandle::create(MapType::ProgArray, Some("l4lb_probe"), 4, 4, 2, &opts);
    let array = array.map_err(|error| Error::Host {
        operation: "make a program array",
        source: io::Error::other(error.to_string()),
    })?;
    let array = ProgramArray::new(array);
    array.set(0, ours.as_fd())?;
    Ok(array.set(1, program).map_err(|error| io::Error::other(error.to_string())))
}
