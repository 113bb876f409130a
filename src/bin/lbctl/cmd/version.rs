//! `lbctl version`, and `lbctl --version`

use std::io;

use crate::output;

pub(crate) fn print(json: bool) -> io::Result<()> {
    output::report(&l4lb::versions(), json)
}
