//! `tcp`: a connection is established.

use super::connect;
use super::failure::Failure;
use super::failure::Success;
use super::session::Session;

pub(super) async fn run(session: &mut Session) -> Result<Success, Failure> {
    let stream = connect::tcp(session).await?;
    // There is no protocol whose end could be waited for.
    connect::reset_on_close(&stream);
    Ok(Success::new("connected"))
}
