//! What commands print with `--json`.

mod errors;
mod reports;
mod shape;
mod shapes;
mod spelling;
mod version;
