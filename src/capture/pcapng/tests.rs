use std::net::IpAddr;
use std::time::Duration;

use pcap_parser::Block;
use pcap_parser::PcapBlockOwned;
use pcap_parser::PcapError;
use pcap_parser::PcapNGReader;
use pcap_parser::traits::PcapReaderIterator;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::super::packet::Decision;
use super::*;
use crate::model::address::Protocol;
use crate::model::address::Vip;
use crate::model::reason::reasons;

/// What a reader finds of a packet.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    interface: String,
    nanoseconds: u64,
    length: u32,
    data: Vec<u8>,
    /// Codes and values, in the order of the file.
    options: Vec<(u16, Vec<u8>)>,
}

/// What a reader finds about an interface at the end of the file.
#[derive(Debug, PartialEq, Eq)]
struct Statistics {
    interface: String,
    options: Vec<(u16, Vec<u8>)>,
}

fn options(options: &[PcapNGOption<'_>]) -> Vec<(u16, Vec<u8>)> {
    let real = options.iter().filter(|option| option.code != OptionCode::EndOfOpt);
    real.map(|option| (option.code.0, option.as_bytes().expect("a length that fits").to_vec()))
        .collect()
}

fn text_of(options: &[(u16, Vec<u8>)], code: OptionCode) -> String {
    let (_, value) = options.iter().find(|(found, _)| *found == code.0).expect("the option");
    String::from_utf8(value.clone()).expect("text")
}

/// Reads a file with pcap-parser. Fails if the end of the file is cut off.
fn read(file: &[u8]) -> (Vec<Found>, Vec<Statistics>) {
    let mut reader = PcapNGReader::new(1 << 18, file).expect("a file");
    let (mut interfaces, mut packets, mut statistics) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        match reader.next() {
            Ok((bytes, block)) => {
                match block {
                    PcapBlockOwned::NG(Block::InterfaceDescription(block)) => {
                        assert_eq!(block.linktype, Linktype::ETHERNET);
                        assert_eq!(block.if_tsresol, NANOSECONDS);
                        interfaces.push(text_of(&options(&block.options), OptionCode::IfName));
                    }
                    PcapBlockOwned::NG(Block::EnhancedPacket(block)) => packets.push(Found {
                        interface: interfaces[block.if_id as usize].clone(),
                        nanoseconds: u64::from(block.ts_high) << 32 | u64::from(block.ts_low),
                        length: block.origlen,
                        data: block.data[..block.caplen as usize].to_vec(),
                        options: options(&block.options),
                    }),
                    PcapBlockOwned::NG(Block::InterfaceStatistics(block)) => {
                        statistics.push(Statistics {
                            interface: interfaces[block.if_id as usize].clone(),
                            options: options(&block.options),
                        });
                    }
                    _ => {}
                }
                reader.consume(bytes);
            }
            Err(PcapError::Eof) => return (packets, statistics),
            Err(PcapError::Incomplete(_)) => reader.refill().expect("more of the file"),
            Err(error) => panic!("{error:?}"),
        }
    }
}

fn expected(packet: &Packet) -> Found {
    let at = if packet.at == CapturePoint::Entry { "entry" } else { "exit" };
    let verdict = packet.decision.as_ref().map(|decision| decision.reason.verdict);
    let direction: u32 = if verdict == Some(Verdict::Tx) { 2 } else { 1 };
    let mut options = vec![
        (1, comment(packet).into_bytes()),
        (2, direction.to_le_bytes().to_vec()),
        (6, packet.queue.to_le_bytes().to_vec()),
    ];
    if let Some(verdict) = verdict {
        let action = match verdict {
            Verdict::Drop => 1,
            Verdict::Pass => 2,
            Verdict::Tx => 3,
        };
        options.push((7, vec![2, action, 0, 0, 0, 0, 0, 0, 0]));
    }
    Found {
        interface: format!("{}@{at}", packet.interface),
        nanoseconds: u64::try_from(
            packet.time.duration_since(SystemTime::UNIX_EPOCH).expect("later").as_nanos(),
        )
        .expect("earlier"),
        length: packet.length,
        data: packet.data.clone(),
        options,
    }
}

prop_compose! {
    fn decisions()(
        reason in 0..reasons().len(),
        vip in option::of((any::<IpAddr>(), any::<u16>(), any::<bool>())),
        real in option::of(any::<IpAddr>()),
    ) -> Decision {
        let vip = vip.map(|(address, port, tcp)| Vip {
            address,
            port,
            protocol: if tcp { Protocol::Tcp } else { Protocol::Udp },
        });
        Decision { reason: &reasons()[reason], vip, real }
    }
}

prop_compose! {
    fn packets()(
        nanoseconds in any::<u64>(),
        interface in 0_u32..6,
        queue in any::<u32>(),
        cpu in any::<u32>(),
        data in vec(any::<u8>(), 0..200),
        more in prop_oneof![Just(0), 0_u32..100_000],
        decision in option::of(decisions()),
    ) -> Packet {
        Packet {
            time: SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds),
            at: if decision.is_some() { CapturePoint::Exit } else { CapturePoint::Entry },
            interface: format!("eth{interface}"),
            ifindex: interface + 1,
            queue,
            cpu,
            length: u32::try_from(data.len()).expect("short") + more,
            data,
            decision,
        }
    }
}

fn sample() -> Packet {
    Packet {
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
        at: CapturePoint::Exit,
        interface: "eth0".to_owned(),
        ifindex: 2,
        queue: 1,
        cpu: 3,
        length: 100,
        data: vec![7; 61],
        decision: Some(Decision {
            reason: reasons()
                .iter()
                .find(|reason| reason.verdict == Verdict::Tx)
                .expect("a reason"),
            vip: Some("tcp://10.200.1.1:80".parse().expect("a VIP")),
            real: Some(IpAddr::from([10, 0, 0, 1])),
        }),
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(packets in vec(packets(), 0..20)) {
        let mut writer = PcapngWriter::new(Vec::new(), &PcapngOptions::default()).expect("memory");
        for packet in &packets {
            writer.packet(packet).expect("memory");
        }
        writer.finish(&[]).expect("memory");
        let (found, _) = read(&writer.into_inner());
        prop_assert_eq!(found, packets.iter().map(expected).collect::<Vec<_>>());
    }
}

#[test]
fn comments_say_what_there_is() {
    let mut packet = sample();
    let decision = packet.decision.as_mut().expect("a decision");
    let reason = decision.reason.name;
    let (vip, real) = (decision.vip.take(), decision.real.take());
    assert_eq!(comment(&packet), format!("verdict=tx reason={reason} at=exit cpu=3"));
    let decision = packet.decision.as_mut().expect("a decision");
    (decision.vip, decision.real) = (vip, real);
    let all =
        format!("verdict=tx reason={reason} vip=tcp://10.200.1.1:80 real=10.0.0.1 at=exit cpu=3");
    assert_eq!(comment(&packet), all);
    assert_eq!(
        comment(&Packet { at: CapturePoint::Entry, decision: None, ..packet }),
        "at=entry cpu=3"
    );
}

#[test]
fn statistics_are_those_of_the_point() {
    let mut writer = PcapngWriter::new(Vec::new(), &PcapngOptions::default()).expect("memory");
    let exit = sample();
    let entry = Packet { at: CapturePoint::Entry, decision: None, ..exit.clone() };
    for packet in [&exit, &entry, &exit] {
        writer.packet(packet).expect("memory");
    }
    let counts = |at, matched, dropped| PointCounts { ifindex: 2, at, matched, dropped };
    writer
        .finish(&[counts(CapturePoint::Entry, 8, 7), counts(CapturePoint::Exit, 6, 4)])
        .expect("memory");
    let (_, statistics) = read(&writer.into_inner());
    let found: Vec<_> = statistics
        .iter()
        .map(|found| {
            let number = |code| {
                let (_, value) =
                    found.options.iter().find(|(other, _)| *other == code).expect("the option");
                u64::from_le_bytes(value.as_slice().try_into().expect("eight bytes"))
            };
            assert!(
                number(2).rotate_left(32) <= number(3).rotate_left(32),
                "it ends before it begins"
            );
            (found.interface.as_str(), number(8), number(6), number(7))
        })
        .collect();
    assert_eq!(found, [("eth0@exit", 2, 6, 4), ("eth0@entry", 1, 8, 7)]);
}

#[test]
fn times_out_of_range_and_long_names_are_bounded() {
    let early = Packet { time: SystemTime::UNIX_EPOCH - Duration::from_secs(1), ..sample() };
    let late = Packet { time: SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40), ..sample() };
    let long = Packet { interface: "ä".repeat(40_000), ..sample() };
    let mut writer = PcapngWriter::new(Vec::new(), &PcapngOptions::default()).expect("memory");
    for packet in [&early, &late, &long] {
        writer.packet(packet).expect("memory");
    }
    let (found, _) = read(&writer.into_inner());
    let times: Vec<u64> = found.iter().map(|found| found.nanoseconds).collect();
    assert_eq!(times, [0, u64::MAX, 1_000_000_000]);
    assert!(found[2].interface.chars().all(|letter| letter == 'ä'));
}

#[test]
fn nothing_is_written_behind_a_block_that_failed() {
    struct Full(Vec<u8>, usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = (self.1 - self.0.len()).min(bytes.len());
            if room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.extend_from_slice(&bytes[..room]);
            Ok(room)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut writer =
        PcapngWriter::new(Full(Vec::new(), 600), &PcapngOptions::default()).expect("room");
    let error = (0..10).find_map(|_| writer.packet(&sample()).err()).expect("no room");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    writer.out.1 = 100_000;
    assert!(writer.packet(&sample()).is_err(), "written behind half a block");
    assert!(writer.finish(&[]).is_err());
    assert_eq!(writer.out.0.len(), 600);
}
