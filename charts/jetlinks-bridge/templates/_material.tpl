{{/*
Files that come out of Secrets: the volume, the Secret, its key, and the setting that names the file. A volume is one
Secret, so that a Secret that changes reaches all its files at once.
*/}}
{{- define "jetlinks-bridge.material" -}}
{{- $values := .Values -}}
{{- $config := $values.config -}}
{{- $generated := printf "%s-generated" (include "jetlinks-bridge.fullname" .) -}}
{{- $all := list -}}
{{- $own := list (dict "volume" "admin-token" "from" $values.secrets.adminToken "generated" "admin-token" "setting" (list "admin" "token_file")) -}}
{{- if $config.dtls.listen -}}
{{- $own = append $own (dict "volume" "dtls-token-secret" "from" $values.secrets.dtlsTokenSecret "generated" "dtls-token-secret" "setting" (list "dtls" "token_secret_file")) -}}
{{- end -}}
{{- range $own -}}
{{- if .from.existingSecret -}}
{{- $all = append $all (dict "volume" .volume "secret" .from.existingSecret "key" .from.key "setting" .setting "restart" true) -}}
{{- else if .from.generate -}}
{{- $all = append $all (dict "volume" .volume "secret" $generated "key" .generated "setting" .setting "restart" false) -}}
{{- end -}}
{{- end -}}
{{- if eq $config.registry.source "file" -}}
{{- if $values.registry.existingSecret -}}
{{- $all = append $all (dict "volume" "devices" "secret" $values.registry.existingSecret "key" $values.registry.key "setting" (list "registry" "file" "path") "restart" false) -}}
{{- else -}}
{{- $all = append $all (dict "volume" "devices" "secret" (printf "%s-devices" (include "jetlinks-bridge.fullname" .)) "key" "devices.toml" "setting" (list "registry" "file" "path") "restart" false) -}}
{{- end -}}
{{- end -}}
{{- with $values.secrets.registryToken -}}
{{- if and .existingSecret (eq $config.registry.source "http") -}}
{{- $all = append $all (dict "volume" "registry-token" "secret" .existingSecret "key" .key "setting" (list "registry" "http" "token_file") "restart" true) -}}
{{- end -}}
{{- end -}}
{{- range $index, $from := $values.secrets.kafka -}}
{{- range $property, $key := $from.files -}}
{{- $name := ternary $property (printf "%s_file" $property) (hasSuffix ".location" $property) -}}
{{- $all = append $all (dict "volume" (printf "kafka-%d" $index) "secret" $from.existingSecret "key" $key "setting" (list "kafka" "properties" $name) "restart" true) -}}
{{- end -}}
{{- end -}}
{{- with $values.secrets.nats.credentials -}}
{{- if .existingSecret -}}
{{- $all = append $all (dict "volume" "nats-credentials" "secret" .existingSecret "key" .key "setting" (list "nats" "credentials_file") "restart" false) -}}
{{- end -}}
{{- end -}}
{{- with $values.secrets.nats.claimSecret -}}
{{- if .existingSecret -}}
{{- $all = append $all (dict "volume" "nats-claim-secret" "secret" .existingSecret "key" .key "setting" (list "nats" "claim_secret_file") "restart" true) -}}
{{- end -}}
{{- end -}}
{{- if or $config.mqtt.tls.listen $config.mqtt.websocket_tls.listen -}}
{{- with $values.secrets.tlsTicketKey -}}
{{- if .existingSecret -}}
{{- $all = append $all (dict "volume" "tls-ticket-key" "secret" .existingSecret "key" .key "setting" (list "mqtt" "tls" "ticket_key_file") "restart" false) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $pairs := list (dict "volume" "nats-tls" "from" $values.secrets.nats.tls "secret" $values.secrets.nats.tls.existingSecret "section" (list "nats" "tls")) -}}
{{- if or $config.mqtt.tls.listen $config.mqtt.websocket_tls.listen -}}
{{- $pairs = append $pairs (dict "volume" "mqtt-tls" "from" $values.tls.mqtt "secret" (include "jetlinks-bridge.tlsSecret" (dict "root" $ "of" "mqtt")) "section" (list "mqtt" "tls")) -}}
{{- end -}}
{{- if $config.dtls.listen -}}
{{- $pairs = append $pairs (dict "volume" "dtls-tls" "from" $values.tls.dtls "secret" (include "jetlinks-bridge.tlsSecret" (dict "root" $ "of" "dtls")) "section" (list "dtls")) -}}
{{- end -}}
{{- range $pair := $pairs -}}
{{- range $part, $name := dict "certificate" "certificate_file" "privateKey" "private_key_file" "ca" "ca_file" "clientCa" "client_ca_file" -}}
{{- if and $pair.secret (get $pair.from $part) -}}
{{- $all = append $all (dict "volume" $pair.volume "secret" $pair.secret "key" (get $pair.from $part) "setting" (append $pair.section $name) "restart" false) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $all -}}
{{- end -}}

{{/* The Secret with the certificate of the TLS listeners (`of` is mqtt) or of the DTLS one; empty when there is none. */}}
{{- define "jetlinks-bridge.tlsSecret" -}}
{{- $given := (get .root.Values.tls .of).existingSecret -}}
{{- default (ternary (include "jetlinks-bridge.certificateSecret" .root) "" .root.Values.certificate.enabled) $given -}}
{{- end -}}

{{/* What of it the pod of `helm test` needs: how to reach the queue of messages. */}}
{{- define "jetlinks-bridge.testMaterial" -}}
{{- $needed := list -}}
{{- range include "jetlinks-bridge.material" . | fromJsonArray -}}
{{- if and (eq (first .setting) $.Values.config.uplink.queue) (ne .volume "nats-claim-secret") -}}
{{- $needed = append $needed . -}}
{{- end -}}
{{- end -}}
{{- toJson $needed -}}
{{- end -}}

{{- define "jetlinks-bridge.materialFolder" -}}
/run/secrets/jetlinks-bridge
{{- end -}}

{{- define "jetlinks-bridge.volumeMounts" -}}
- name: config
  mountPath: /etc/jetlinks-bridge
  readOnly: true
{{- include "jetlinks-bridge.materialMounts" (include "jetlinks-bridge.material" . | fromJsonArray) }}
{{- end -}}

{{- define "jetlinks-bridge.materialMounts" -}}
{{- $seen := dict }}
{{- range . }}
{{- if not (hasKey $seen .volume) }}
{{- $_ := set $seen .volume true }}
- name: {{ .volume }}
  mountPath: {{ include "jetlinks-bridge.materialFolder" $ }}/{{ .volume }}
  readOnly: true
{{- end }}
{{- end }}
{{- end -}}

{{- define "jetlinks-bridge.volumes" -}}
- name: config
  configMap:
    name: {{ include "jetlinks-bridge.fullname" . }}
{{- include "jetlinks-bridge.materialVolumes" (include "jetlinks-bridge.material" . | fromJsonArray) }}
{{- end -}}

{{- define "jetlinks-bridge.materialVolumes" -}}
{{- $material := . }}
{{- $seen := dict }}
{{- range $material }}
{{- if not (hasKey $seen .volume) }}
{{- $_ := set $seen .volume true }}
- name: {{ .volume }}
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
    items:
      {{- $volume := .volume }}
      {{- $keys := list }}
      {{- range $material }}
      {{- if eq .volume $volume }}
      {{- $keys = append $keys .key }}
      {{- end }}
      {{- end }}
      {{- range uniq $keys }}
      - key: {{ . | quote }}
        path: {{ . | quote }}
      {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/*
Of Secrets that the bridge reads at its start alone, and that this chart did not generate: a change restarts the pods with
the next upgrade. Without a cluster to look into (`helm template`) it is the same for ever.
*/}}
{{- define "jetlinks-bridge.secretsChecksum" -}}
{{- $text := "" -}}
{{- range include "jetlinks-bridge.material" . | fromJsonArray -}}
{{- if .restart -}}
{{- $secret := lookup "v1" "Secret" $.Release.Namespace .secret -}}
{{- $text = printf "%s %s/%s=%s" $text .secret .key (dig "data" .key "" $secret) -}}
{{- end -}}
{{- end -}}
{{- sha256sum $text -}}
{{- end -}}
