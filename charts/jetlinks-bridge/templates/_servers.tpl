{{/*
Addresses of servers, wherever they are given: as a setting of config, or over that by a variable of extraEnv or an
argument `--set` of extraArgs. `text` is the address, several with commas between; `isHidden` says that it comes, or
with envFrom may come, from a Secret or a ConfigMap, which the chart cannot read.
*/}}
{{- define "jetlinks-bridge.given" -}}
{{- $values := .root.Values -}}
{{- $text := $values.config -}}
{{- range .setting -}}
{{- $text = ternary (get (default dict $text) .) "" (kindIs "map" $text) -}}
{{- end -}}
{{- if kindIs "slice" $text -}}{{- $text = join "," $text -}}{{- end -}}
{{- $text = default "" $text -}}
{{- $isHidden := and (empty $text) (not (empty $values.envFrom)) -}}
{{- $isNamed := not (empty $text) -}}
{{- $variable := printf "JETLINKS_BRIDGE__%s" (join "__" .setting | upper) -}}
{{- range $values.extraEnv -}}
{{- if eq .name $variable -}}
{{- $text = default "" .value -}}
{{- $isHidden = hasKey . "valueFrom" -}}
{{- $isNamed = true -}}
{{- end -}}
{{- end -}}
{{- $prefix := printf "^(--set=)?%s=" (join "." .setting | replace "." "[.]") -}}
{{- range $values.extraArgs -}}
{{- if regexMatch $prefix . -}}
{{- $text = regexReplaceAll $prefix . "" -}}
{{- $isHidden = false -}}
{{- end -}}
{{- end -}}
{{- toJson (dict "text" $text "isHidden" $isHidden "isNamed" $isNamed "variable" $variable) -}}
{{- end -}}

{{/* Which servers the configuration uses: the setting of their address, and what the rule of the NetworkPolicy is about. */}}
{{- define "jetlinks-bridge.servers" -}}
{{- $config := .Values.config -}}
{{- $all := list -}}
{{- $nats := include "jetlinks-bridge.given" (dict "root" . "setting" (list "nats" "servers")) | fromJson -}}
{{- $isNamed := or $nats.text $nats.isNamed -}}
{{- if or $isNamed (has "nats" (list $config.uplink.queue $config.commands.queue $config.registry.source)) -}}
{{- $all = append $all (merge (dict "of" "queues" "kind" "nats") $nats) -}}
{{- end -}}
{{- if has "kafka" (list $config.uplink.queue $config.commands.queue) -}}
{{- $all = append $all (merge (dict "of" "queues" "kind" "kafka") (include "jetlinks-bridge.given" (dict "root" . "setting" (list "kafka" "brokers")) | fromJson)) -}}
{{- end -}}
{{- if eq $config.registry.source "http" -}}
{{- $all = append $all (merge (dict "of" "registry" "kind" "url") (include "jetlinks-bridge.given" (dict "root" . "setting" (list "registry" "http" "url")) | fromJson)) -}}
{{- end -}}
{{- $tracing := include "jetlinks-bridge.given" (dict "root" . "setting" (list "tracing" "endpoint")) | fromJson -}}
{{- if $tracing.isNamed -}}
{{- $all = append $all (merge (dict "of" "tracing" "kind" "url") $tracing) -}}
{{- end -}}
{{- toJson $all -}}
{{- end -}}

{{/* Their ports, as the addresses name them or as the protocol has them. */}}
{{- define "jetlinks-bridge.serverPorts" -}}
{{- $ports := list -}}
{{- $of := .of -}}
{{- range include "jetlinks-bridge.servers" .root | fromJsonArray -}}
{{- if eq .of $of -}}
{{- $kind := .kind -}}
{{- $usual := dict "kafka" "9092" "" "4222" "nats" "4222" "tls" "4222" "ws" "80" "wss" "443" "http" "80" "https" "443" -}}
{{- range splitList "," .text -}}
{{- $host := regexFind "^([a-z]+://)?[^/]+" (trim .) -}}
{{- if $host -}}
{{- $scheme := ternary "kafka" (trimSuffix "://" (regexFind "^[a-z]+://" $host)) (eq $kind "kafka") -}}
{{- $ports = append $ports (default (get $usual $scheme) (include "jetlinks-bridge.port" (regexFind ":[0-9]+$" $host))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range .further -}}{{- $ports = append $ports (toString (int64 .)) -}}{{- end -}}
{{- toJson (uniq $ports | sortAlpha) -}}
{{- end -}}
