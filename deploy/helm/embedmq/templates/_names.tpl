{{/* Names and labels; the settings of one pool; its configuration as TOML. */}}

{{- define "embedmq.fullname" -}}
{{- $chart := .Chart.Name -}}
{{- if contains $chart .Release.Name }}{{ .Release.Name }}{{ else }}{{ printf "%s-%s" .Release.Name $chart }}{{ end -}}
{{- end }}

{{/* Of (dict "root" $ "name" POOL). Fits into a label, with a suffix to spare. */}}
{{- define "embedmq.poolname" -}}
{{- $name := printf "%s-%s" (include "embedmq.fullname" .root) .name -}}
{{- if gt (len $name) 52 }}{{ fail (printf "pools.%s: %s has more than 52 characters: shorten the release's or the pool's name" .name $name) }}{{ end -}}
{{- $name -}}
{{- end }}

{{- define "embedmq.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "embedmq.labels" -}}
{{ include "embedmq.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "embedmq.poolselector" -}}
{{ include "embedmq.selector" .root }}
app.kubernetes.io/component: {{ include "embedmq.poolname" . }}
{{- end }}

{{- define "embedmq.serviceaccount" -}}
{{ .Values.serviceAccount.existing | default (include "embedmq.fullname" .) }}
{{- end }}

{{/* All that is set for one pool: what it says, over poolDefaults. JSON, to be read with fromJson. */}}
{{- define "embedmq.pool" -}}
{{- mergeOverwrite (deepCopy .root.Values.poolDefaults) (index .root.Values.pools .name) | toJson -}}
{{- end }}

{{/* The worker's settings for one pool, as JSON: config, the pool's own, its models, and where Kafka and Redis are. */}}
{{- define "embedmq.settings" -}}
{{- $values := .root.Values -}}
{{- $pool := include "embedmq.pool" . | fromJson -}}
{{- $kafka := dict "bootstrap" $values.kafka.bootstrap -}}
{{- if or $values.kafka.tls $values.kafka.tlsSecret }}{{ $_ := set $kafka "tls" true }}{{ end -}}
{{- if $values.kafka.saslMechanism }}{{ $_ := set $kafka "sasl_mechanism" $values.kafka.saslMechanism }}{{ end -}}
{{- $redis := dict "url" $values.redis.url -}}
{{- range $name, $section := dict "kafka" $kafka "redis" $redis -}}
  {{- $given := index $values $name -}}
  {{- if $given.tlsSecret }}{{ $_ := set $section "ca_file" (printf "/etc/embedmq/tls/%s/ca.crt" $name) }}{{ end -}}
  {{- if $given.clientCertificate -}}
    {{- $_ := required (printf "%s.clientCertificate needs %s.tlsSecret" $name $name) $given.tlsSecret -}}
    {{- $_ := set $section "cert_file" (printf "/etc/embedmq/tls/%s/tls.crt" $name) -}}
    {{- $_ := set $section "key_file" (printf "/etc/embedmq/tls/%s/tls.key" $name) -}}
  {{- end -}}
{{- end -}}
{{- $worker := dict "http" "0.0.0.0:9464" "device" (ternary "cuda" "cpu" (eq $pool.device "cuda")) -}}
{{- $ours := dict "kafka" $kafka "redis" $redis "worker" $worker "models" $pool.models -}}
{{- mergeOverwrite (deepCopy $values.config) $pool.config $ours | toJson -}}
{{- end }}

{{- define "embedmq.toml" -}}
{{- include "embedmq.table" (dict "path" "" "table" (include "embedmq.settings" . | fromJson)) | trim }}
{{- end }}

{{/* A table, then those within it. A scalar or an array of JSON is TOML as it stands; null: left out. */}}
{{- define "embedmq.table" -}}
{{- with .path }}
[{{ . }}]
{{ end -}}
{{- range $key, $value := .table }}{{ if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}{{ include "embedmq.key" $key }} = {{ toJson $value }}
{{ end }}{{ end -}}
{{- range $key, $value := .table }}{{ if kindIs "map" $value -}}
{{- include "embedmq.table" (dict "path" (trimPrefix "." (printf "%s.%s" $.path (include "embedmq.key" $key))) "table" $value) }}
{{- end }}{{ end -}}
{{- end }}

{{- define "embedmq.key" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toJson . }}{{ end -}}
{{- end }}

{{/* A delay as topics are called by it: 10s, 5m, 2h. */}}
{{- define "embedmq.delay" -}}
{{- $s := int . -}}
{{- if eq 0 (mod $s 3600) }}{{ div $s 3600 }}h{{ else if eq 0 (mod $s 60) }}{{ div $s 60 }}m{{ else }}{{ $s }}s{{ end -}}
{{- end }}
