//! Man pages: a page for each command, from the parser's own help, and `l4lb.toml(5)`, from docs/config.md.

mod config_page;

use std::fs;
use std::io;
use std::path::Path;

use clap::Command;

use crate::Exit;
use crate::Failure;
use crate::Result;
use crate::args::command;

/// Writes all pages to a folder, which it makes.
pub(crate) fn write(folder: &Path) -> Result {
    let failed =
        |source| Failure::from(l4lb::Error::Host { operation: "write the man pages", source });
    fs::create_dir_all(folder).map_err(failed)?;
    let mut command = command().disable_help_subcommand(true);
    command.build();
    pages(&command, folder).map_err(failed)?;
    fs::write(folder.join("l4lb.toml.5"), config_page::page()).map_err(failed)?;
    Ok(Exit::Done)
}

/// Writes the page of a command, and those of its subcommands.
fn pages(command: &Command, folder: &Path) -> io::Result<()> {
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        pages(command, folder)?;
    }
    let man = clap_mangen::Man::new(command.clone())
        .source(concat!("l4lb ", env!("CARGO_PKG_VERSION")))
        .manual("l4lb");
    let mut text = Vec::new();
    man.render(&mut text)?;
    fs::write(folder.join(man.get_filename()), text)
}
