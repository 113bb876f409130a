//! The state and the selection of `lbctl top`. It reads nothing and draws nothing.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::time::Instant;

use l4lb::Rate;
use l4lb::Rates;
use l4lb::Stats;
use l4lb::Vip;
use l4lb::VipRate;
use l4lb::VipRealStatus;
use l4lb::VipStatus;
use ratatui::crossterm::event::KeyCode;
use ratatui::crossterm::event::KeyEvent;
use ratatui::crossterm::event::KeyModifiers;

use super::condition;

/// How many intervals sparklines show at most.
pub(super) const HISTORY: usize = 60;

/// How many rows Page Up and Page Down move.
const PAGE: isize = 10;

/// A reading.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) stats: Stats,
    pub(super) vips: Vec<VipStatus>,
    /// Since when the node is drained, in seconds since 1970; `None`: it is not.
    pub(super) draining_since: Option<u64>,
}

/// The state of the view.
#[derive(Debug)]
pub(super) struct App {
    pub(super) instance: String,
    /// Why the last reading failed. All other data is older then.
    pub(super) failure: Option<String>,
    /// `None`: not read yet.
    pub(super) condition: Option<condition::Reading>,
    pub(super) rates: Rates,
    last: Option<Sample>,
    /// Packets per second, the newest last.
    history: BTreeMap<Vip, VecDeque<u64>>,
    /// Rows move with the rates; the selection stays on its VIP or real.
    vip: Option<Vip>,
    real: Option<IpAddr>,
    inside: bool,
    /// Whether a key made the selection; before that, it is the busiest row.
    chosen: bool,
    /// Whether VIPs come first that have no usable real, or fail open.
    pub(super) dark_first: bool,
}

/// Whether a VIP has no usable real, or fails open.
pub(super) fn is_marked(vip: &VipStatus) -> bool {
    vip.usable_reals() == 0 || vip.fails_open
}

impl App {
    pub(super) fn new(instance: &str) -> Self {
        Self {
            instance: instance.to_owned(),
            failure: None,
            condition: None,
            rates: Rates::default(),
            last: None,
            history: BTreeMap::new(),
            vip: None,
            real: None,
            inside: false,
            chosen: false,
            dark_first: false,
        }
    }

    /// Takes a reading, or the reason why there is none.
    pub(super) fn sample(&mut self, sample: Result<Sample, String>) {
        let sample = match sample {
            Ok(sample) => sample,
            Err(failure) => {
                self.failure = Some(failure);
                self.condition = None;
                return;
            }
        };
        self.failure = None;
        if let Some(last) = &self.last {
            self.rates =
                Rates::between(&last.stats, &sample.stats, sample.at.duration_since(last.at));
            self.history.retain(|vip, _| sample.stats.vips.contains_key(vip));
            for VipStatus { vip, .. } in &sample.vips {
                let history = self.history.entry(*vip).or_default();
                if history.len() == HISTORY {
                    history.pop_front();
                }
                let packets = self.rates.vips.get(vip).map_or(0.0, VipRate::packets);
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "whole packets will do, and rates are never negative"
                )]
                history.push_back(packets.round() as u64);
            }
        }
        self.last = Some(sample);
        if !self.chosen || self.selected_vip().is_none() {
            self.inside = false;
            self.vip = self.vips().first().map(|vip| vip.vip);
        }
        if self.selected_real().is_none() {
            self.real = self.reals().first().map(|real| real.address);
        }
    }

    /// Takes a reading of the condition. It is ignored if the instance does not run: the reading says so already.
    pub(super) fn condition(&mut self, reading: condition::Reading) {
        self.condition = Some(reading).filter(|_| self.failure.is_none());
    }

    fn all_vips(&self) -> &[VipStatus] {
        self.last.as_ref().map_or(&[][..], |sample| &sample.vips)
    }

    /// Since when the node is drained, in seconds since 1970; `None`: it is not.
    pub(super) fn draining_since(&self) -> Option<u64> {
        self.last.as_ref()?.draining_since
    }

    /// How many VIPs have no usable real, and how many there are.
    pub(super) fn dark_vips(&self) -> (usize, usize) {
        let vips = self.all_vips();
        (vips.iter().filter(|vip| vip.usable_reals() == 0).count(), vips.len())
    }

    /// How many VIPs use all reals, because too few are healthy.
    pub(super) fn open_vips(&self) -> usize {
        self.all_vips().iter().filter(|vip| vip.fails_open).count()
    }

    /// The VIPs, busiest first.
    pub(super) fn vips(&self) -> Vec<&VipStatus> {
        let mut vips: Vec<_> = self.last.iter().flat_map(|sample| &sample.vips).collect();
        let packets = |vip: &VipStatus| self.vip_rate(vip.vip).packets();
        vips.sort_by(|a, b| packets(b).total_cmp(&packets(a)));
        if self.dark_first {
            vips.sort_by_key(|vip| !is_marked(vip));
        }
        vips
    }

    /// The reals of the shown VIP, busiest first.
    pub(super) fn reals(&self) -> Vec<&VipRealStatus> {
        let vip = self.shown_vip();
        let mut reals: Vec<_> = vip.into_iter().flat_map(|vip| &vip.reals).collect();
        let packets = |real: &VipRealStatus| self.real_rate(real).unwrap_or_default().packets;
        reals.sort_by(|a, b| packets(b).total_cmp(&packets(a)));
        reals
    }

    /// The VIP whose reals are shown.
    pub(super) fn shown_vip(&self) -> Option<&VipStatus> {
        let vip = self.vip.filter(|_| self.inside)?;
        self.last.as_ref()?.vips.iter().find(|status| status.vip == vip)
    }

    /// The place of the selected VIP in [`Self::vips`].
    pub(super) fn selected_vip(&self) -> Option<usize> {
        let vip = self.vip?;
        self.vips().iter().position(|status| status.vip == vip)
    }

    /// The place of the selected real in [`Self::reals`].
    pub(super) fn selected_real(&self) -> Option<usize> {
        let real = self.real?;
        self.reals().iter().position(|status| status.address == real)
    }

    pub(super) fn vip_rate(&self, vip: Vip) -> VipRate {
        self.rates.vips.get(&vip).copied().unwrap_or_default()
    }

    /// What a real of the shown VIP gets for this VIP; `None`: it is not counted.
    pub(super) fn real_rate(&self, real: &VipRealStatus) -> Option<Rate> {
        real.sent?;
        let rate = self.rates.sent.get(&(self.vip?, real.address));
        Some(rate.copied().unwrap_or_default())
    }

    /// Packets per second in the last intervals, newest last.
    pub(super) fn history(&self, vip: Vip, most: usize) -> Vec<u64> {
        let Some(history) = self.history.get(&vip) else { return Vec::new() };
        history.iter().skip(history.len().saturating_sub(most)).copied().collect()
    }

    /// Handles a key; `Break` ends the program.
    pub(super) fn key(&mut self, key: KeyEvent) -> ControlFlow<()> {
        match key.code {
            KeyCode::Char('q') => return ControlFlow::Break(()),
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return ControlFlow::Break(());
            }
            KeyCode::Up | KeyCode::Char('k') => self.go(-1),
            KeyCode::Down | KeyCode::Char('j') => self.go(1),
            KeyCode::PageUp => self.go(-PAGE),
            KeyCode::PageDown => self.go(PAGE),
            KeyCode::Home => self.go(isize::MIN),
            KeyCode::End => self.go(isize::MAX),
            KeyCode::Enter | KeyCode::Right if !self.inside && self.vip.is_some() => {
                self.inside = true;
                self.chosen = true;
                self.real = self.reals().first().map(|real| real.address);
            }
            KeyCode::Char('!') if !self.inside => {
                self.dark_first = !self.dark_first;
                self.chosen = false;
                self.vip = self.vips().first().map(|vip| vip.vip);
            }
            KeyCode::Esc | KeyCode::Left | KeyCode::Backspace => self.inside = false,
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn go(&mut self, rows: isize) {
        self.chosen = true;
        let to = |selected: Option<usize>, count: usize| {
            selected.unwrap_or_default().saturating_add_signed(rows).min(count.saturating_sub(1))
        };
        if self.inside {
            let reals = self.reals();
            let real = reals.get(to(self.selected_real(), reals.len()));
            self.real = real.map(|real| real.address);
        } else {
            let vips = self.vips();
            let vip = vips.get(to(self.selected_vip(), vips.len()));
            self.vip = vip.map(|vip| vip.vip);
        }
    }
}
