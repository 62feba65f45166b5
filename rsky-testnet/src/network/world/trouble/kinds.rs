//! The kinds of trouble, by name, and whose they are.

macro_rules! troubles {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// A kind of trouble.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Trouble {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Trouble {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

troubles! {
    /// The connection ends in the middle of a frame.
    Cut = "cut",
    /// The connection is reset.
    Reset = "reset",
    /// An error frame, and a close frame.
    Error = "error",
    /// Nothing for 200 ms.
    Silence = "silence",
    /// A frame of before once more, under its number.
    Repeat = "repeat",
    /// Bytes that are no frame.
    Garbage = "garbage",
    /// The beginning of a frame as a whole message.
    Half = "half",
    /// A message of text.
    Text = "text",
    /// A frame of a type that nobody knows.
    Unknown = "unknown",
    /// A commit with a block that is not what its CID says.
    WrongHash = "wrong-hash",
    /// A commit without the block of its record: nothing may come of it, and nobody keeps it.
    MissingBlock = "missing-block",
    /// A commit of a record with far too many members.
    ManyMembers = "many-members",
    /// A commit of a record with members of the same name.
    EqualMembers = "equal-members",
    /// A commit of 200 operations that name one block, which is no record.
    ManyOperations = "many-operations",
    /// A commit with a path that is none.
    BadPath = "bad-path",
    /// A frame of 700 KB.
    Oversize = "oversize",
    /// A relay says, three times in a row, that it does not know the cursor, which it knows; to who then has a look without a
    /// cursor it sends what comes next.
    FutureCursor = "future-cursor",
    /// A relay says once that it has not kept what follows the cursor, and sends it.
    OutdatedCursor = "outdated-cursor",
    /// A `#sync` of an account of which nothing is missing.
    Sync = "sync",
    /// A commit that says it was too big to say what it did, at the revision that the account has.
    TooBig = "too-big",
    /// An event's commit is signed with another key than the account's.
    WrongSignature = "wrong-signature",
    /// An event's commit has a revision of twenty years later.
    FutureRev = "future-rev",
    /// An event's commit, of new records, has a revision of a year before.
    PastRev = "past-rev",
    /// A host answers getRepo with an error of its own (500).
    HostError = "host-error",
    /// A host that is asked too often (429).
    HostBusy = "host-busy",
    /// A host answers getRepo with a page for people, and 200.
    HostPage = "host-page",
    /// A host's answer ends at any byte.
    HostHalf = "host-half",
    /// A host's answer ends between two blocks.
    HostBlocks = "host-blocks",
    /// A byte of a host's answer is another.
    HostByte = "host-byte",
    /// A host's repository is signed with another key than the account's.
    HostSignature = "host-signature",
    /// A host does not answer.
    HostSilence = "host-silence",
    /// A host answers with ten bytes a second.
    HostTrickle = "host-trickle",
    /// The directory has an error of its own (500).
    PlcError = "plc-error",
    /// The directory is asked too often: 429, with `Retry-After`.
    PlcBusy = "plc-busy",
    /// The directory answers with a page for people, and 200.
    PlcPage = "plc-page",
    /// A document ends in its middle, and the connection with it.
    PlcCut = "plc-cut",
    /// The directory does not answer.
    PlcSilence = "plc-silence",
    /// The directory answers with ten bytes a second.
    PlcTrickle = "plc-trickle",
    /// The directory gives the document of another account.
    PlcOther = "plc-other",
    /// The host of a did:web has an error of its own (500).
    WebError = "web-error",
    /// The host of a did:web answers with a page for people, and 200.
    WebPage = "web-page",
    /// The host of a did:web does not answer.
    WebSilence = "web-silence",
    /// Whoever resolves handles has an error of its own (500).
    HandleError = "handle-error",
    /// Whoever resolves handles is asked too often (429).
    HandleBusy = "handle-busy",
    /// Whoever resolves handles answers with a page for people, and 200.
    HandlePage = "handle-page",
    /// The answer about a handle ends in its middle.
    HandleCut = "handle-cut",
    /// There is no answer about a handle.
    HandleSilence = "handle-silence",
    /// A handle leads to another account, until the history has ended.
    HandleOther = "handle-other",
    /// A page of listRepos fails with 500: once, or so often that smaller pages are asked for.
    ListError = "list-error",
    /// listRepos is asked too often: 429, with `Retry-After`.
    ListBusy = "list-busy",
    /// listRepos answers with a page for people, and 200.
    ListPage = "list-page",
    /// A page of listRepos ends in its middle, and the connection with it.
    ListCut = "list-cut",
    /// There is no answer of listRepos.
    ListSilence = "list-silence",
    /// A page of listRepos names as the next the cursor that it was asked for with.
    ListRepeat = "list-repeat",
    /// The labeler's connection ends in the middle of a frame.
    LabelCut = "label-cut",
    /// The labeler's connection is reset.
    LabelReset = "label-reset",
    /// The labeler sends an error frame, and a close frame.
    LabelError = "label-error",
    /// Nothing of the labeler for 200 ms.
    LabelSilence = "label-silence",
    /// A frame of labels once more, under its number.
    LabelRepeat = "label-repeat",
    /// Bytes of the labeler that are no frame.
    LabelGarbage = "label-garbage",
    /// The beginning of a frame of labels as a whole message.
    LabelHalf = "label-half",
    /// A message of text, of the labeler.
    LabelText = "label-text",
    /// A frame of the labeler of a type that nobody knows.
    LabelUnknown = "label-unknown",
    /// A frame of labels that are none.
    LabelMalformed = "label-malformed",
    /// A frame of labels that are signed with another key.
    LabelSignature = "label-signature",
    /// The labeler says once that it does not know the cursor, which it knows.
    LabelFuture = "label-future",
    /// The labeler says once that it has not kept what follows the cursor, and sends it.
    LabelOutdated = "label-outdated",
}

/// Who does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// A relay, in ways that change nothing about what must be in the tables, in which order ever it is read.
    Relay,
    /// A relay that gives a reason to read an account's repository again. A backfiller has to run.
    Resync,
    /// An account or its host: what is in the commit of an event, which relays pass on.
    Events,
    /// A host that is asked for a repository.
    Hosts,
    /// The PLC directory.
    Directory,
    /// The host of a did:web account: there have to be some ([`WorldOptions::web`](super::super::WorldOptions::web)).
    Web,
    /// Whoever resolves handles.
    Handles,
    /// A relay that is asked for its repositories.
    Listing,
    /// The labeler.
    Labeler,
}

impl Trouble {
    /// Whose it is.
    pub fn party(self) -> Party {
        match (self, self.name().split_once('-').map_or("", |(party, _)| party)) {
            (Self::Sync | Self::TooBig, _) => Party::Resync,
            (Self::WrongSignature | Self::FutureRev | Self::PastRev, _) => Party::Events,
            (_, "host") => Party::Hosts,
            (_, "plc") => Party::Directory,
            (_, "web") => Party::Web,
            (_, "handle") => Party::Handles,
            (_, "list") => Party::Listing,
            (_, "label") => Party::Labeler,
            _ => Party::Relay,
        }
    }

    /// Whether what becomes of it depends on which is read first, the history or the stream.
    pub fn depends_on_order(self) -> bool {
        matches!(self, Self::WrongSignature | Self::HandleOther)
    }

    /// Whether a reader has to set the frame aside, and can tell its number.
    pub fn is_set_aside(self) -> bool {
        matches!(
            self,
            Self::WrongHash
                | Self::ManyMembers
                | Self::EqualMembers
                | Self::ManyOperations
                | Self::BadPath
                | Self::LabelMalformed
        )
    }

    /// Whether a reader has to take the frame as any other.
    pub fn is_taken(self) -> bool {
        self.party() == Party::Events || self == Self::LabelSignature
    }
}

impl std::str::FromStr for Trouble {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().copied().find(|trouble| trouble.name() == text);
        found.ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|trouble| trouble.name()).collect();
            format!("no trouble is called {text:?}; there are {}", names.join(", "))
        })
    }
}
