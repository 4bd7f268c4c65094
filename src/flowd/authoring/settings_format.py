"""The format of a daemon's configuration as one table, as that of pipelines is in `format`."""

from __future__ import annotations

from flowd.authoring.format import Key

SETTINGS = {
    key.name: key
    for key in (
        Key("listen", "listen", "The address of the API: HOST:PORT, or a port.", "127.0.0.1:8470"),
        Key("state_dir", "path", "Where runs are kept.", "as for flowd run, beside the configuration"),
        Key("pipelines", "paths", "Globs of the pipelines' files.", "all below its folder"),
        Key("max_concurrency", "count", "How many tasks run at once, of all runs.", "32"),
        Key("limits", "limits", "Named capacities of all runs: NAME: N.", "those of the pipelines"),
        Key("tokens_file", "path", "Who may ask for what.", "daemon/tokens.json in the state directory"),
        Key("hosts", "texts", "Names by which the API may be asked besides its address.", "none"),
        Key("url", "text", "How people reach it, for links in notices.", "http:// and its address"),
        Key("tls", "tls", "A certificate and its key: {cert: PATH, key: PATH}.", "none"),
        Key("insecure", "bool", "Whether others than this machine may ask without TLS.", "false"),
        Key("log", "daemon_log", "Where its own lines go: {file, format, level, size, keep}.", "stderr"),
        Key("notify", "notify", "Who is told of every pipeline: [{on: [failed], to: URL}].", "none"),
        Key("private", "texts", "Networks and hosts of one's own to which notices may be posted.", "none"),
        Key("retention", "retention", "What is kept of the runs of a pipeline that does not say.", "see flowd prune"),
        Key("misfire_grace", "positive", "How late a firing may be before it counts as missed.", "60s"),
    )
}

TLS = {
    key.name: key
    for key in (
        Key("cert", "path", "The certificate, and those above it: a PEM file.", required=True),
        Key("key", "path", "Its key: a PEM file.", required=True),
    )
}

DAEMON_LOG = {
    key.name: key
    for key in (
        Key("file", "path", "A file that gets the same lines.", "none"),
        Key("format", "choice", "How lines look.", "console", choices=("console", "json")),
        Key("level", "choice", "The least level shown.", "info", choices=("debug", "info", "warning", "error")),
        Key("size", "size", "The file is begun anew at so many bytes.", "10MB"),
        Key("keep", "count", "How many older ones are kept.", "5"),
    )
}
