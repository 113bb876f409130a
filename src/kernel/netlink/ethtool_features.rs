//! Settings of a network card's driver: offloads and queues, as `ethtool -k` and `ethtool -l` show them.

use std::collections::BTreeSet;
use std::time::Duration;

use ethtool::EthtoolAttr;
use ethtool::EthtoolChannelAttr;
use ethtool::EthtoolError;
use ethtool::EthtoolFeatureAttr;
use ethtool::EthtoolFeatureBit;
use ethtool::EthtoolHandle;
use futures_util::stream::Stream;
use futures_util::stream::StreamExt;
use netlink_packet_generic::GenlMessage;
use tokio::time::timeout;

use super::client::blocking;
use crate::model::error::NetlinkError;

/// How long the kernel may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The offloads of an interface, by the kernel's names: `rx-lro`, `rx-gro`, …
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Features {
    /// Those that are on.
    pub(crate) active: BTreeSet<String>,
    /// Those that cannot be changed.
    pub(crate) fixed: BTreeSet<String>,
}

/// How many queues an interface has, and can have. A driver has combined queues, separate ones, or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Channels {
    /// Queues that only receive.
    pub(crate) rx: u32,
    pub(crate) rx_max: u32,
    /// Queues that only send.
    pub(crate) tx: u32,
    /// Combined queues.
    pub(crate) combined: u32,
    pub(crate) combined_max: u32,
}

impl Channels {
    /// Queues that receive.
    pub(crate) fn receiving(&self) -> u32 {
        self.rx + self.combined
    }
}

/// Reads the offloads of an interface. The error is a text for the user.
pub(crate) fn features_blocking(interface: &str) -> Result<Features, String> {
    let attributes = ask(async |mut handle| {
        collect(handle.feature().get(Some(interface)).execute().await).await
    })?;
    let mut features = Features::default();
    let names = |bits: Vec<EthtoolFeatureBit>| {
        bits.into_iter().filter(|bit| bit.value).map(|bit| bit.name).collect()
    };
    for attribute in attributes {
        match attribute {
            EthtoolAttr::Feature(EthtoolFeatureAttr::Active(bits)) => features.active = names(bits),
            EthtoolAttr::Feature(EthtoolFeatureAttr::NoChange(bits)) => {
                features.fixed = names(bits);
            }
            _ => {}
        }
    }
    Ok(features)
}

/// Reads the number of an interface's queues. The error is a text for the user.
pub(crate) fn channels_blocking(interface: &str) -> Result<Channels, String> {
    let attributes = ask(async |mut handle| {
        collect(handle.channel().get(Some(interface)).execute().await).await
    })?;
    let mut channels = Channels::default();
    for attribute in attributes {
        let EthtoolAttr::Channel(attribute) = attribute else { continue };
        match attribute {
            EthtoolChannelAttr::RxMax(count) => channels.rx_max = count,
            EthtoolChannelAttr::CombinedMax(count) => channels.combined_max = count,
            EthtoolChannelAttr::RxCount(count) => channels.rx = count,
            EthtoolChannelAttr::TxCount(count) => channels.tx = count,
            EthtoolChannelAttr::CombinedCount(count) => channels.combined = count,
            _ => {}
        }
    }
    Ok(channels)
}

type Answer = Result<Vec<EthtoolAttr>, EthtoolError>;

fn ask<F>(question: F) -> Result<Vec<EthtoolAttr>, String>
where
    F: AsyncFnOnce(EthtoolHandle) -> Answer + Send,
{
    let asked = blocking(async |_| {
        let failed = NetlinkError::system("open a netlink socket");
        let (connection, handle, _) = ethtool::new_connection().map_err(failed)?;
        tokio::spawn(connection);
        Ok(timeout(ANSWER_TIMEOUT, question(handle)).await)
    });
    match asked {
        Ok(Ok(Ok(attributes))) => Ok(attributes),
        Ok(Ok(Err(EthtoolError::NetlinkError(error)))) => Err(error.to_io().to_string()),
        Ok(Ok(Err(error))) => Err(error.to_string()),
        Ok(Err(_)) => Err("the kernel did not answer".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

async fn collect(
    answer: Result<
        impl Stream<Item = Result<GenlMessage<ethtool::EthtoolMessage>, EthtoolError>>,
        EthtoolError,
    >,
) -> Answer {
    let mut answer = std::pin::pin!(answer?);
    let mut attributes = Vec::new();
    while let Some(message) = answer.next().await {
        attributes.extend(message?.payload.nlas);
    }
    Ok(attributes)
}
