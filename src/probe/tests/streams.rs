//! `tcp` and `agent`.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;

use super::check;
use super::fails;
use super::nobody;
use super::run;
use super::server;
use crate::model::config::CheckKind;
use crate::probe::Class;
use crate::probe::Outcome;

#[tokio::test]
async fn a_connection_is_enough() {
    let tcp = check(CheckKind::Tcp);
    let silent = server(|mut stream| async move { drop(stream.read_u8().await) }).await;
    let report = run(&tcp, silent).await;
    assert_eq!((report.outcome, report.class), (Outcome::HEALTHY, Class::Ok));
    assert_eq!(
        fails(&tcp, nobody().await).await,
        (Class::Refused, "connection refused".to_owned())
    );
}

/// A server that hangs has its connection freed, and nothing of it is left on this host.
#[tokio::test]
async fn a_run_that_gives_up_ends_its_connection_by_a_rst() {
    for kind in [CheckKind::Http, CheckKind::Tls, CheckKind::Agent] {
        let (told, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let hangs = server(move |mut stream| {
            let told = told.clone();
            async move {
                // Reads whatever comes, and never answers.
                let mut buffer = [0; 4096];
                let end = loop {
                    match stream.read(&mut buffer).await {
                        Ok(0) => break Ok(()),
                        Ok(_) => {}
                        Err(error) => break Err(error.kind()),
                    }
                };
                told.send(end).expect("somebody waits");
            }
        })
        .await;
        let mut check = check(kind);
        check.timeout = Some(Duration::from_millis(300));
        assert_eq!(fails(&check, hangs).await.0, Class::Timeout, "{kind:?}");
        let reset = Some(Err(std::io::ErrorKind::ConnectionReset));
        assert_eq!(seen.recv().await, reset, "{kind:?}");
    }
}

#[tokio::test]
async fn what_this_host_cannot_do_says_nothing_about_the_real() {
    let tcp = check(CheckKind::Tcp);
    // Class E: the kernel has no route to it.
    let report = run(&tcp, SocketAddr::from(([0xff, 0xff, 0xff, 0xff], 80))).await;
    assert_eq!((report.outcome, report.class), (Outcome::Unknown, Class::Local), "{report:?}");
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let report = run(&tcp, nowhere).await;
    assert_eq!((report.outcome, report.class), (Outcome::Unknown, Class::Local), "{report:?}");
}

#[tokio::test]
async fn an_agent_says_how_it_is() {
    let agent = check(CheckKind::Agent);
    let says = |line: &'static [u8]| {
        server(move |mut stream| async move { drop(stream.write_all(line).await) })
    };
    assert_eq!(run(&agent, says(b"up 25%").await).await.outcome, Outcome::Healthy { share: 25 });
    assert_eq!(run(&agent, says(b"drain\n").await).await.outcome, Outcome::Healthy { share: 0 });
    let (class, reason) = fails(&agent, says(b"down #maintenance\r\nup\n").await).await;
    assert_eq!((class, reason.as_str()), (Class::Agent, "agent: down (maintenance)"));
    assert_eq!(fails(&agent, says(b"").await).await.0, Class::Protocol);
    assert_eq!(fails(&agent, says(b"\xff\xfe\0\n").await).await.0, Class::Protocol);
}

#[tokio::test]
async fn an_agent_that_never_ends_is_cut() {
    let mut agent = check(CheckKind::Agent);
    let endless =
        server(|mut stream| async move { while stream.write_all(&[b'x'; 512]).await.is_ok() {} })
            .await;
    assert_eq!(fails(&agent, endless).await.0, Class::Protocol);
    agent.timeout = Some(Duration::from_millis(300));
    let slow = server(|mut stream| async move {
        while stream.write_all(b"u").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let (class, reason) = fails(&agent, slow).await;
    assert_eq!((class, reason.as_str()), (Class::Timeout, "no line from the agent in 300ms"));
}
