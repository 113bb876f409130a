//! The plan of the house, as a test: a room uses only rooms below it.

mod circles;
mod headers;
mod reference;
mod rooms;
