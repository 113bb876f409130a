//! `tcp`: a connection is established.

use super::connect;
use super::failure::Failure;
use super::failure::Success;
use super::session::Session;

pub(super) async fn run(session: &mut Session) -> Result<Success, Failure> {
    connect::tcp(session).await?;
    Ok(Success::new("connected"))
}
