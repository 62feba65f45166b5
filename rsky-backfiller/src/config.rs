//! The backfiller's settings, read once at start. Names: DECISIONS, "Names the outside relies on".

use rsky_common::config::{CommonConfig, ConfigError, Environment, Settings, Variable, host_name};
use rsky_common::runtime::daemon::Startup;

const BACKFILLER_GROUP: Variable = Variable {
    name: "BACKFILLER_GROUP",
    alias: None,
    expects: "a group name",
    default: Some("repo_backfill_group"),
    help: "Consumer group on the queue of repositories. All backfillers of one pipeline share it.",
};
const BACKFILLER_CONSUMER: Variable = Variable {
    name: "BACKFILLER_CONSUMER",
    alias: None,
    expects: "a name, stable over restarts and different for every backfiller",
    default: None,
    help: "This process's name in the group. Unset: the host name.",
};
const BACKFILLER_BACKFILL_STREAM: Variable = Variable {
    name: "BACKFILLER_BACKFILL_STREAM",
    alias: None,
    expects: "a stream name",
    default: Some("repo_backfill"),
    help: "The queue of repositories. `<name>_priority` is drained before it.",
};
const BACKFILLER_FIREHOSE_STREAM: Variable = Variable {
    name: "BACKFILLER_FIREHOSE_STREAM",
    alias: None,
    expects: "a stream name",
    default: Some("firehose_backfill"),
    help: "Where the records go.",
};
const METRICS_PORT: Variable = Variable {
    name: "METRICS_PORT",
    alias: Some("BACKFILLER_METRICS_PORT"),
    expects: "a port, 0 to 65535",
    default: Some("4010"),
    help: "Port of the admin pages; 0 takes a free one.",
};

/// The backfiller's settings.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Redis, admin server, logging.
    pub common: CommonConfig,
    /// Group on the queues.
    pub group: String,
    /// Name in the group.
    pub consumer: String,
    /// The queue.
    pub backfill_stream: String,
    /// The output.
    pub firehose_stream: String,
    /// Warnings about the environment, logged at start.
    pub notices: Vec<String>,
}

impl Config {
    /// Reads the settings.
    ///
    /// # Errors
    /// Every variable that is missing or malformed, in one error.
    pub(crate) fn read(environment: Environment) -> Result<Self, ConfigError> {
        let notices = environment.misspelt(&["BACKFILLER_"], &Self::variables());
        let mut settings = Settings::new(environment);
        let s = &mut settings;
        let config = Self {
            common: CommonConfig::read(s, &METRICS_PORT),
            group: s.text(&BACKFILLER_GROUP),
            consumer: s.given(&BACKFILLER_CONSUMER).unwrap_or_else(host_name),
            backfill_stream: s.text(&BACKFILLER_BACKFILL_STREAM),
            firehose_stream: s.text(&BACKFILLER_FIREHOSE_STREAM),
            notices,
        };
        settings.finish(config)
    }

    /// What the daemon's frame needs of it.
    pub(crate) fn startup(&self) -> Startup {
        Startup {
            name: crate::pipeline::NAME,
            version: env!("CARGO_PKG_VERSION"),
            log: self.common.log.clone(),
            drain: self.common.drain,
            notices: self.notices.clone(),
        }
    }

    /// The declarations, for `--help` and for the warning about misspelt names.
    pub(crate) fn variables() -> Vec<&'static Variable> {
        let own: [&'static Variable; 5] = [
            &BACKFILLER_GROUP,
            &BACKFILLER_CONSUMER,
            &BACKFILLER_BACKFILL_STREAM,
            &BACKFILLER_FIREHOSE_STREAM,
            &METRICS_PORT,
        ];
        CommonConfig::VARIABLES.iter().copied().chain(own).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_name_the_variables() {
        let environment = Environment::from_pairs([("BACKFILLER_METRICS_PORT".to_owned(), "x".to_owned())]);
        let said = Config::read(environment).unwrap_err().to_string();
        assert!(said.contains("REDIS_URL") && said.contains("BACKFILLER_METRICS_PORT"), "{said}");
    }
}
