-- The ledger of one run, or of one part of it. Public: docs/ledger.md says what a reader may rely on.
-- Ids are integers; hashes are 16-byte blake2b and stored once; times are UTC seconds; money is nano-dollars.
CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE source(id INTEGER PRIMARY KEY, hash BLOB, uri TEXT NOT NULL, stamp TEXT NOT NULL,
  n_rows INTEGER NOT NULL, complete INTEGER NOT NULL) STRICT;
CREATE TABLE row(source INTEGER NOT NULL, line INTEGER NOT NULL, item INTEGER, source_id TEXT, reason TEXT, excerpt TEXT,
  PRIMARY KEY(source, line)) STRICT, WITHOUT ROWID;
CREATE INDEX row_item ON row(item) WHERE item IS NOT NULL;
CREATE TABLE prompt(id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, messages TEXT NOT NULL, tools TEXT,
  parallel_tool_calls INTEGER) STRICT;
CREATE TABLE item(id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, prompt INTEGER NOT NULL, category TEXT,
  reference TEXT, columns TEXT) STRICT;
CREATE INDEX item_prompt ON item(prompt);

CREATE TABLE recipe(id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, json TEXT NOT NULL) STRICT;
CREATE TABLE session(id INTEGER PRIMARY KEY, recipe INTEGER NOT NULL, t_start REAL NOT NULL, t_end REAL, exit INTEGER,
  version TEXT NOT NULL) STRICT;
CREATE TABLE counter(name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE done(view BLOB NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
  PRIMARY KEY(view, first)) STRICT, WITHOUT ROWID;
-- The key's columns come first: SQLite 3.40's integrity check reports phantom NULLs otherwise.
CREATE TABLE fact(name TEXT NOT NULL, t REAL NOT NULL, json TEXT NOT NULL, PRIMARY KEY(name, t)) STRICT, WITHOUT ROWID;

CREATE TABLE sampler(id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, json TEXT NOT NULL) STRICT;
CREATE TABLE judge(id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, json TEXT NOT NULL) STRICT;
CREATE TABLE reads(id INTEGER PRIMARY KEY, hash BLOB NOT NULL) STRICT;
CREATE TABLE text(id INTEGER PRIMARY KEY, hash BLOB NOT NULL, body TEXT NOT NULL) STRICT;

-- No CHECK on the next three: it costs a third of the insert; `verify` looks at the same conditions.
--   call.status: ok | failed | submitted; exactly one of sampler and judge
--   completion.origin: sampled | revised | imported | human
--   verdict.kind: score | choice | ranking | label | list; exactly one of a result and a reason. A list that was read is
--   an artifact; only one that could not be read is a verdict, about no text
CREATE TABLE call(id INTEGER PRIMARY KEY, session INTEGER NOT NULL, prompt INTEGER NOT NULL, stage TEXT NOT NULL,
  sampler INTEGER, judge INTEGER, unit TEXT NOT NULL,
  status TEXT NOT NULL, reason TEXT, attempt INTEGER NOT NULL,
  target TEXT, endpoint TEXT, model_reported TEXT, fingerprint TEXT, http_status INTEGER, request_id TEXT, batch_id TEXT,
  t_sent REAL, wall_s REAL, n_prompt_tokens INTEGER, n_cached_tokens INTEGER, n_completion_tokens INTEGER,
  n_reasoning_tokens INTEGER, cost_nanousd INTEGER, maybe_billed INTEGER NOT NULL DEFAULT 0,
  reply TEXT, reply_hash BLOB, extra TEXT) STRICT;
CREATE INDEX call_prompt ON call(prompt);
CREATE TABLE completion(prompt INTEGER NOT NULL, sampler INTEGER NOT NULL, idx INTEGER NOT NULL, text INTEGER NOT NULL,
  n_chars INTEGER NOT NULL, reasoning TEXT, seed INTEGER, finish_reason TEXT NOT NULL, n_tokens INTEGER, logprob_sum REAL,
  origin TEXT NOT NULL, made_from INTEGER, call INTEGER,
  PRIMARY KEY(prompt, sampler, idx)) STRICT, WITHOUT ROWID;
CREATE TABLE verdict(prompt INTEGER NOT NULL, judge INTEGER NOT NULL, reads INTEGER NOT NULL, shown TEXT NOT NULL,
  repeat INTEGER NOT NULL, kind TEXT NOT NULL,
  value REAL, p REAL, choice TEXT, ranking TEXT, parts TEXT, reason TEXT, read_version INTEGER NOT NULL, call INTEGER,
  PRIMARY KEY(prompt, judge, reads, shown, repeat)) STRICT, WITHOUT ROWID;
CREATE TABLE artifact(item INTEGER NOT NULL, name TEXT NOT NULL, made_by INTEGER NOT NULL, body TEXT NOT NULL,
  body_hash BLOB NOT NULL, call INTEGER, PRIMARY KEY(item, name, made_by)) STRICT, WITHOUT ROWID;
CREATE TABLE export(id INTEGER PRIMARY KEY, session INTEGER, view BLOB NOT NULL, format TEXT NOT NULL, path TEXT NOT NULL,
  n_rows INTEGER NOT NULL, sha256 TEXT NOT NULL) STRICT;
