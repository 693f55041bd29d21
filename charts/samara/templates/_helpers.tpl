{{- /* The image of all daemons. */}}
{{- define "samara.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- /* Labels that every object has. */}}
{{- define "samara.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
app.kubernetes.io/name: samara
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- /* A container that can do nothing but run: the operator, the hook. */}}
{{- define "samara.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- /* How every daemon logs. */}}
{{- define "samara.env" -}}
- name: SAMARA_LOG
  value: {{ .Values.log.filter | quote }}
- name: SAMARA_LOG_FORMAT
  value: {{ .Values.log.format | quote }}
{{- end }}

{{- /* Refuses what would fight on the nodes. */}}
{{- define "samara.check" -}}
{{- $names := list }}{{ $everywhere := 0 }}
{{- range .Values.classes }}
  {{- if has .name $names }}{{ fail (printf "classes: the name %s occurs twice" .name) }}{{ end }}
  {{- $names = append $names .name }}
  {{- $sidecar := mergeOverwrite (deepCopy $.Values.sidecar) (deepCopy (.sidecar | default dict)) }}
  {{- if and (empty $sidecar.nodeSelector) (empty $sidecar.affinity) }}{{ $everywhere = add1 $everywhere }}{{ end }}
  {{- $network := mergeOverwrite (deepCopy $.Values.network) (deepCopy (.network | default dict)) }}
  {{- $images := mergeOverwrite (deepCopy $.Values.images) (deepCopy (.images | default dict)) }}
  {{- if and $images.enabled (not $network.hostNetwork) }}
    {{- fail (printf "classes: %s: images.enabled needs network.hostNetwork: the container runtime asks the mirror on the node's 127.0.0.1" .name) }}
  {{- end }}
  {{- if and $images.registries (not $images.enabled) }}
    {{- fail (printf "classes: %s: images.registries needs images.enabled: pulls are shared through the mirror" .name) }}
  {{- end }}
  {{- if and $images.enabled (has (int $images.mirrorPort) (list (int $network.peerPort) (int $network.healthPort))) }}
    {{- fail (printf "classes: %s has the same port for the image mirror as for peers or for health" .name) }}
  {{- end }}
  {{- if eq (int $network.peerPort) (int $network.healthPort) }}
    {{- fail (printf "classes: %s has the same port for peers and for health" .name) }}
  {{- end }}
{{- end }}
{{- if and (gt (len .Values.classes) 1) (gt $everywhere 0) }}
  {{- fail "classes: with more than one, each needs a sidecar.nodeSelector or sidecar.affinity of its own: a node serves one class" }}
{{- end }}
{{- end }}
