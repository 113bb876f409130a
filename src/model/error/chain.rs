//! Why a program cannot be put into the chain, moved or removed.

use std::io;
use std::path::PathBuf;

use strum::IntoStaticStr;
use strum::VariantNames;

use crate::model::abi::consts;

/// Why the chain stays as it is. One line.
#[derive(Debug, thiserror::Error, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum ChainError {
    /// No name for a program.
    #[error(
        "'{0}' is no name for a program: use up to 64 letters, digits, '-' and '_', a letter first, or give \
         another with --name"
    )]
    Name(String),

    /// The name of a program of l4lb.
    #[error("'{0}' is the name of a program of l4lb; give another with --name")]
    OwnName(String),

    /// There is no such slot, or it is not for this program.
    #[error(
        "slot {slot} is not for {what}: they go into slots 1 to {last}", last = consts::CHAIN_SLOTS - 1
    )]
    NoSlot {
        /// The slot.
        slot: u32,
        /// What was to go into it.
        what: &'static str,
    },

    /// Another program has the slot.
    #[error(
        "slot {slot} of the chain holds '{holder}'; 'lbctl chain move {holder} SLOT' makes room"
    )]
    SlotTaken {
        /// The slot.
        slot: u32,
        /// The program's name.
        holder: String,
    },

    /// A program of this name is in another slot.
    #[error(
        "'{name}' is in slot {slot} already; 'lbctl chain move {name} SLOT' moves it, and --name gives another name"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Its slot.
        slot: u32,
    },

    /// No place is free.
    #[error("the chain has no place for one more program; remove one first")]
    NoPlace,

    /// Another program has the place that the program was loaded for.
    #[error(
        "'{name}' was loaded with l4lb_slot = {place}, which is '{holder}' in this chain; load it with another"
    )]
    PlaceTaken {
        /// The program.
        name: String,
        /// Its `l4lb_slot`.
        place: u32,
        /// The program that has that place.
        holder: String,
    },

    /// There is no such program.
    #[error("the chain has no program {0}; 'lbctl chain list' shows them")]
    NoSuchProgram(String),

    /// A program of l4lb is removed by another command.
    #[error("'{name}' is a program of l4lb: '{command}' takes it out of the chain")]
    OwnProgram {
        /// Its name.
        name: String,
        /// The command that removes it.
        command: &'static str,
    },

    /// Captures stay where they are.
    #[error("'{0}' stays in slot {slot} until the last capture ends: captures see packets before all others", slot = consts::SLOT_CAPTURE)]
    Capture(String),

    /// One of our programs would receive no packets any more.
    #[error(
        "'{name}' hands no packet on: in slot {slot} it would keep all packets from {own} in slot {own_slot}; give it \
         a slot behind that"
    )]
    EndsBefore {
        /// The program that ends the chain.
        name: String,
        /// Its slot.
        slot: u32,
        /// The program behind it.
        own: String,
        /// The slot of that program.
        own_slot: u32,
    },

    /// The instance is on no interface.
    #[error("instance '{instance}' is on no interface; give one with --interface")]
    NoInterface {
        /// The instance.
        instance: String,
    },

    /// The object or pin cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },

    /// The object cannot be used.
    #[error("{path}: {why}", path = path.display())]
    Object {
        /// The file.
        path: PathBuf,
        /// Why not, and what to do.
        why: String,
    },

    /// A map of the object is defined otherwise than the existing one.
    #[error(
        "map '{map}' of '{name}' is defined otherwise than the map that exists: remove the program first ('lbctl \
         chain remove {name}'), which also removes its maps and what they hold"
    )]
    MapChanged {
        /// The program.
        name: String,
        /// The map.
        map: String,
    },

    /// The program cannot be in a chain.
    #[error("program '{program}' cannot be in the chain: {why}")]
    Misfit {
        /// Its name.
        program: String,
        /// Why not.
        why: String,
    },

    /// The program on the interface cannot be taken into the chain.
    #[error(
        "program '{program}' (id {id}) of interface {interface} cannot be taken into the chain: {why}"
    )]
    CannotAdopt {
        /// Its name.
        program: String,
        /// The kernel's id of it.
        id: u32,
        /// The interface.
        interface: String,
        /// Why not.
        why: String,
    },
}
