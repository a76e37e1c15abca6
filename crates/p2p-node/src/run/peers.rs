//! Options of how many peers there are, which, and who is banned.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use clap::Args;
use p2p_types::PeerId;
use preconfirmation_p2p::{ConfigError, IpRange, NetworkConfig, PeersConfig, ScoreConfig};

use super::list::{List, flat};

/// Options of peers, as other rollup nodes have them.
#[derive(Debug, Args)]
pub(super) struct PeerArgs {
    /// Below so many peers, known ones are dialled and unknown ones looked for
    #[arg(long = "p2p.peers.lo", value_name = "N", default_value_t = PeersConfig::default().low)]
    low: usize,

    /// Above so many peers, the worst are disconnected, but no static or trusted one
    #[arg(long = "p2p.peers.hi", value_name = "N", default_value_t = PeersConfig::default().high)]
    high: usize,

    /// How long a peer stays at least, to show what it is worth, such as 30s or 5m
    #[arg(long = "p2p.peers.grace", value_name = "TIME", default_value_t = Period(PeersConfig::default().grace))]
    grace: Period,

    /// Ban a peer whose application score is below this; at most -5
    ///
    /// A score is between -10 and 10, so with -10 nobody is banned.
    #[arg(
        long = "p2p.ban.threshold",
        value_name = "SCORE",
        allow_negative_numbers = true,
        default_value_t = ScoreConfig::default().ban_threshold
    )]
    ban_threshold: f64,

    /// Ban it when its score has been so low for this long
    #[arg(long = "p2p.ban.after", value_name = "TIME", default_value_t = Period(ScoreConfig::default().ban_after))]
    ban_after: Period,

    /// How long a banned peer is refused
    #[arg(long = "p2p.ban.duration", value_name = "TIME", default_value_t = Period(ScoreConfig::default().ban_for))]
    ban_for: Period,

    /// A peer that is never disconnected for its score, never banned, and counts in no limit; may be repeated, or separated by commas
    ///
    /// Static peers are trusted in any case.
    #[arg(long = "p2p.trusted", value_name = "PEER")]
    trusted: Vec<List<PeerArg>>,

    /// Only peers in these networks, such as 10.0.0.0/8; may be repeated, or separated by commas
    ///
    /// Whoever connects from elsewhere is refused, and nobody elsewhere is dialled, static peers included. Where a peer is
    /// that is dialled by its name (DNS) is not asked.
    #[arg(long = "p2p.netrestrict", value_name = "CIDR")]
    restrict_to: Vec<List<IpRange>>,

    /// Directory for known peers and the node's record (ENR) [default: `network` in --datadir]
    #[arg(long = "p2p.peerstore.path", value_name = "PATH")]
    pub(super) peerstore: Option<PathBuf>,
}

impl PeerArgs {
    /// Takes over what the options say.
    pub(super) fn configure(&self, config: &mut NetworkConfig) {
        let (peers, score) = (&mut config.peers, &mut config.score);
        (peers.low, peers.high, peers.grace) = (self.low, self.high, self.grace.0);
        (score.ban_threshold, score.ban_after, score.ban_for) =
            (self.ban_threshold, self.ban_after.0, self.ban_for.0);
        // So many may have to be dialled.
        let outbound = &mut config.connections.max_outbound;
        *outbound = (*outbound).max(u32::try_from(self.low).unwrap_or(u32::MAX));
        config.trusted_peers = flat(&self.trusted).into_iter().map(|peer| peer.0).collect();
        config.restrict_to = flat(&self.restrict_to);
    }
}

/// The options by which settings are set, where they are.
const OPTIONS: [(&str, &str); 6] = [
    ("peers.low", "--p2p.peers.lo"),
    ("peers.high", "--p2p.peers.hi"),
    ("peers.grace", "--p2p.peers.grace"),
    ("score.ban_threshold", "--p2p.ban.threshold"),
    ("score.ban_after", "--p2p.ban.after"),
    ("score.ban_for", "--p2p.ban.duration"),
];

/// What is wrong with settings, in the words of the options.
pub(super) fn explain(error: &ConfigError) -> String {
    let option = |setting: &'static str| {
        OPTIONS.into_iter().find(|(of, _)| *of == setting).map_or(setting, |(_, option)| option)
    };
    match error {
        ConfigError::Above { setting, value, limit_setting, limit } => {
            format!("{} {value}: is above {}, which is {limit}", option(setting), option(limit_setting))
        }
        ConfigError::OutOfRange { setting, value } => {
            format!("{} {value}: is outside its range", option(setting))
        }
        ConfigError::Thresholds { graylist, ban, .. } => {
            format!("--p2p.ban.threshold {ban}: must be {graylist} or less")
        }
        error => error.to_string(),
    }
}

/// A peer, by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PeerArg(PeerId);

impl FromStr for PeerArg {
    type Err = PeerIdError;

    fn from_str(text: &str) -> Result<Self, PeerIdError> {
        text.parse().map(Self).map_err(|_| PeerIdError { given: text.into() })
    }
}

/// A text that is no peer id.
#[derive(Debug, thiserror::Error)]
#[error("`{given}` is no peer id, such as 12D3… or 16Uiu2…")]
pub(crate) struct PeerIdError {
    given: Box<str>,
}

/// How long something lasts, as people write it: `30s`, `5m`, `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Period(Duration);

impl FromStr for Period {
    type Err = humantime::DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        humantime::parse_duration(text).map(Self)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use preconfirmation_p2p::Keypair;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        peers: PeerArgs,
    }

    fn configured(options: &[&str]) -> NetworkConfig {
        let cli = Cli::try_parse_from([&["run"], options].concat()).unwrap();
        let mut config = NetworkConfig::new(7, Keypair::generate_secp256k1());
        cli.peers.configure(&mut config);
        config
    }

    #[test]
    fn each_option_sets_its_setting_and_none_changes_anything() {
        let config = configured(&[]);
        let default = NetworkConfig::new(7, Keypair::generate_secp256k1());
        assert_eq!(
            (config.peers, config.score, config.connections),
            (default.peers, default.score, default.connections)
        );
        assert!(config.trusted_peers.is_empty() && config.restrict_to.is_empty());

        let (a, b) = (PeerId::random(), PeerId::random());
        let config = configured(&[
            "--p2p.peers.lo=70",
            "--p2p.peers.hi=80",
            "--p2p.peers.grace=1h0m5s",
            "--p2p.ban.threshold",
            "-6.5",
            "--p2p.ban.after=2m",
            "--p2p.ban.duration=1day",
            &format!("--p2p.trusted={a},{b}"),
            "--p2p.netrestrict=10.0.0.0/8",
            "--p2p.netrestrict=::1",
        ]);
        assert_eq!((config.peers.low, config.peers.high, config.connections.max_outbound), (70, 80, 70));
        assert_eq!(config.peers.grace, Duration::from_secs(3605));
        assert_eq!(
            (config.score.ban_threshold, config.score.ban_after, config.score.ban_for),
            (-6.5, Duration::from_secs(120), Duration::from_secs(86_400))
        );
        assert_eq!(config.trusted_peers, [a, b]);
        let shown: Vec<_> = config.restrict_to.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.0/8", "::1/128"]);
        config.check().unwrap();
    }

    #[test]
    fn what_cannot_work_is_told_in_the_words_of_the_options() {
        for (options, words) in [
            (&["--p2p.peers.lo=40"][..], "--p2p.peers.lo 40: is above --p2p.peers.hi, which is 30"),
            (
                &["--p2p.peers.lo=600", "--p2p.peers.hi=600"],
                "--p2p.peers.lo 600: is above peers.known, which is 512",
            ),
            (&["--p2p.ban.threshold=-1"], "--p2p.ban.threshold -1: must be -5 or less"),
            (&["--p2p.ban.duration=11years"], "--p2p.ban.duration 347133600: is outside its range"),
        ] {
            assert_eq!(explain(&configured(options).check().unwrap_err()), words);
        }
    }
}
