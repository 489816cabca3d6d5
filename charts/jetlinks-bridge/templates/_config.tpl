{{/* The TOML file: values.config, and the settings that name mounted files. */}}
{{- define "jetlinks-bridge.toml" -}}
{{- $material := include "jetlinks-bridge.material" . | fromJsonArray -}}
{{- include "jetlinks-bridge.tomlOf" (dict "config" .Values.config "material" $material) -}}
{{- end -}}

{{/* That of `helm test`: where messages are stored. The file of the devices must be named, and is not read. */}}
{{- define "jetlinks-bridge.testToml" -}}
{{- $queue := .Values.config.uplink.queue -}}
{{- $config := dict "uplink" .Values.config.uplink "registry" (dict "source" "file" "file" (dict "path" "devices.toml")) "log" .Values.config.log -}}
{{- $_ := set $config $queue (get .Values.config $queue | default dict) -}}
{{- include "jetlinks-bridge.tomlOf" (dict "config" $config "material" (include "jetlinks-bridge.testMaterial" . | fromJsonArray)) -}}
{{- end -}}

{{- define "jetlinks-bridge.tomlOf" -}}
{{- $config := deepCopy .config -}}
{{- range .material -}}
{{- $at := $config -}}
{{- range initial .setting -}}
{{- if not (kindIs "map" (get $at .)) -}}
{{- $_ := set $at . dict -}}
{{- end -}}
{{- $at = get $at . -}}
{{- end -}}
{{- $_ := set $at (last .setting) (printf "%s/%s/%s" (include "jetlinks-bridge.materialFolder" $) .volume .key) -}}
{{- end -}}
{{- include "jetlinks-bridge.tomlTable" (dict "path" "" "table" $config) | trim -}}
{{- end -}}

{{/* Plain keys come before nested tables: in TOML a key below a heading belongs to that heading. */}}
{{- define "jetlinks-bridge.tomlTable" -}}
{{- $plain := list -}}
{{- $nested := list -}}
{{- range $key, $value := .table -}}
{{- if kindIs "map" $value -}}
{{- $nested = append $nested $key -}}
{{- else if not (kindIs "invalid" $value) -}}
{{- $plain = append $plain (printf "%s = %s" (include "jetlinks-bridge.tomlKey" $key) (include "jetlinks-bridge.tomlValue" $value)) -}}
{{- end -}}
{{- end -}}
{{- if $plain }}
{{- if .path }}
[{{ .path }}]
{{- end }}
{{ join "\n" $plain }}
{{ end -}}
{{- $path := .path -}}
{{- $table := .table -}}
{{- range $nested -}}
{{- $key := include "jetlinks-bridge.tomlKey" . -}}
{{- include "jetlinks-bridge.tomlTable" (dict "path" (ternary (printf "%s.%s" $path $key) $key (not (empty $path))) "table" (get $table .)) -}}
{{- end -}}
{{- end -}}

{{- define "jetlinks-bridge.tomlKey" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . -}}{{ . }}{{- else -}}{{ toRawJson . }}{{- end -}}
{{- end -}}

{{/* JSON's strings are TOML's basic strings. Helm reads every number as a float, and most are whole ones. */}}
{{- define "jetlinks-bridge.tomlValue" -}}
{{- if kindIs "slice" . -}}
[
{{- range $index, $item := . -}}
{{- if $index }}, {{ end -}}
{{- include "jetlinks-bridge.tomlValue" $item -}}
{{- end -}}
]
{{- else if kindIs "float64" . -}}
{{- if eq (floor .) . -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- else if kindIs "string" . -}}
{{- toRawJson . -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}
