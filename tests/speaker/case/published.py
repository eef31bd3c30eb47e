"""Published CASE results used by several tests."""

# Published equal error rates of WeSpeaker ResNet34 (CASE benchmark, results of 2025).
WESPEAKER = {
    "clean_clean": 0.0058,
    "clean_codec_alaw": 0.012199999999999996,
    "clean_codec_gsm": 0.025999999999995246,
    "clean_codec_mp3_32k": 0.007199999999998569,
    "clean_codec_opus_12k": 0.010399999999999961,
    "clean_codec_opus_24k": 0.0058,
    "clean_codec_opus_6k": 0.0445,
    "clean_codec_ulaw": 0.014900000000000017,
    "clean_mic_conference_ceiling": 0.005199999999999978,
    "clean_mic_headset_usb": 0.006200000000000002,
    "clean_mic_laptop_internal": 0.005999999999988237,
    "clean_mic_phone": 0.006399999999999952,
    "clean_mic_smartphone_flagship": 0.0057000000000000245,
    "clean_mic_webcam_budget": 0.005900000000000014,
    "clean_mic_webcam_quality": 0.006199999999998453,
    "clean_noise_snr_10": 0.007700000000000025,
    "clean_noise_snr_15": 0.005799999999762621,
    "clean_noise_snr_20": 0.007000000000000003,
    "clean_noise_snr_25": 0.006,
    "clean_noise_snr_5": 0.009799999999999419,
    "clean_playback_alaw_snr25_phone": 0.07779999999897591,
    "clean_playback_gsm_snr20_webcam_budget": 0.10059999999992478,
    "clean_playback_ulaw_snr15_laptop_internal": 0.07879999999999998,
    "clean_reverb": 0.05879999999999995,
}
