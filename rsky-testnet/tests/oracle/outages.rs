//! Redis and Postgres that are killed and come back, while the daemons go on.

use std::fs::{File, read_dir};
use std::path::PathBuf;
use std::time::Duration;

use rsky_testnet::servers::{Postgres, Redis};

use crate::pipeline::Rig;
use crate::plan::{Moments, Servers};

/// How a Redis is started that is to be killed: what it acknowledges is in its file.
pub fn redis(servers: Servers) -> Redis {
    let builder = Redis::builder();
    match servers {
        Servers::Stay => builder,
        Servers::Killed | Servers::SetBack => builder.appendonly(true).setting("appendfsync", "always"),
    }
    .start()
    .unwrap()
}

/// A Postgres that is to be killed, whose commits outlive that: they are with the kernel when they are acknowledged.
pub fn postgres(servers: Servers) -> Option<Postgres> {
    (servers != Servers::Stay)
        .then(|| Postgres::builder().setting("synchronous_commit", "on").start().unwrap())
}

impl Rig {
    /// Kills Redis, which comes back with all it had acknowledged.
    pub fn kill_redis(&mut self) {
        if self.servers == Servers::Stay {
            return;
        }
        self.redis.kill().unwrap();
        self.redis.restart().unwrap();
        self.kills += 1;
    }

    /// Kills Postgres, which comes back with all it had committed.
    pub fn kill_postgres(&mut self) {
        if let Some(postgres) = &mut self.postgres {
            postgres.kill().unwrap();
            postgres.restart().unwrap();
            self.kills += 1;
        }
    }

    /// From now on Redis may come back as it was at any moment after this one, and syncs its file as the seed says.
    pub fn begin_setbacks(&self, moments: &mut Moments) {
        if self.servers != Servers::SetBack {
            return;
        }
        self.rewrite_log();
        let policy = ["always", "everysec", "no"][moments.below(3) as usize - 1];
        self.redis.command(&["CONFIG", "SET", "appendfsync", policy]).unwrap();
        println!("appendfsync {policy}");
    }

    /// Kills Redis; of what it has written down since [`Rig::begin_setbacks`], the end is lost from some byte on.
    pub fn set_redis_back(&mut self, moments: &mut Moments) {
        if self.servers != Servers::SetBack {
            return self.kill_redis();
        }
        self.redis.kill().unwrap();
        let log = self.redis_log();
        let written = log.metadata().unwrap().len() as i64;
        // More often a little than much.
        let most = moments.below(written);
        let lost = moments.below(most);
        File::options().write(true).open(&log).unwrap().set_len((written - lost) as u64).unwrap();
        println!("Redis has lost {lost} of {written} bytes");
        self.redis.restart().unwrap();
        // Redis 7.0 leaves a transaction open in a file that was cut inside one, and executes it when the file is loaded for
        // the second time: entries come back behind what their group has read (docs/OPERATIONS.md).
        self.rewrite_log();
        self.kills += 1;
    }

    /// Redis writes down what it holds, and begins a new file for what happens from now on.
    fn rewrite_log(&self) {
        let said = |name: &str| {
            let info = self.redis.command(&["INFO", "persistence"]).unwrap().as_text().unwrap();
            info.lines().any(|line| line.trim() == name)
        };
        self.redis.command(&["BGREWRITEAOF"]).unwrap();
        while !(said("aof_rewrite_in_progress:0") && said("aof_rewrite_scheduled:0")) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The file that what happens is added to.
    fn redis_log(&self) -> PathBuf {
        let files = read_dir(self.redis.directory().join("appendonlydir")).unwrap();
        let files = files.map(|file| file.unwrap().path());
        files.filter(|path| path.to_string_lossy().ends_with(".incr.aof")).max().unwrap()
    }
}
