//! Names of other programs in a chain.

use super::pins::programs;
use crate::instance::Instance;
use crate::instance::own_programs::CHAIN_MAPS;
use crate::instance::own_programs::OwnProgram;
use crate::instance::own_programs::ROOT;
use crate::model::error::ChainError;
use crate::model::error::Result;
use crate::model::text::quote;

/// Refuses a name that a pin cannot have, or that is one of ours.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.len() > 64
        || !name.starts_with(|c: char| c.is_ascii_alphabetic())
        || !name.chars().all(fits)
    {
        return Err(ChainError::Name(quote(name)).into());
    }
    // The folder of the program's maps would have the same path as the pin of one of our maps.
    let mut maps = OwnProgram::ALL.iter().flat_map(|own| own.maps()).chain(&CHAIN_MAPS);
    if name == ROOT || OwnProgram::named(name).is_some() || maps.any(|map| *map == name) {
        return Err(ChainError::OwnName(name.to_owned()).into());
    }
    Ok(())
}

/// Finds a free name in the chain for a program that has this name elsewhere.
pub(crate) fn free_name(instance: &Instance, program: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let mut name: String = program.chars().map(fits).collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name = format!("x{name}");
    }
    let taken = programs(instance);
    let is_free = |name: &String| check_name(name).is_ok() && !taken.contains(name);
    let numbered = (2..).map(|n: u32| format!("{name}-{n}"));
    std::iter::once(name.clone()).chain(numbered).find(is_free).unwrap_or(name)
}
