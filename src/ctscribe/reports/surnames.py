"""Surnames, and the words of reports that only look like names."""

# ruff: noqa: SIM905, E501 - lists of words read better as words
from __future__ import annotations

HAN = "\u3400-\u9fff\U00020000-\U0003134f"  # within [ ] of a pattern
SURNAMES = frozenset(
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗高郑梁谢宋唐许韩邓冯曹彭曾肖萧田董潘袁蔡蒋余于杜叶程魏苏吕丁任卢姚沈钟姜崔谭陆范汪"
    "廖石金韦贾夏付傅方邹熊白孟秦邱丘侯江尹薛闫阎段雷龙黎史陶贺毛郝顾龚邵万覃武钱戴严莫孔向常温左成安汤章葛翁申尤柳翟康俞"
    "施牛樊洪庄兰殷倪芦梅盛童邢骆伍季辛路管齐庞颜聂焦岳伏詹柯欧宁古鲁甘祝单房项包符纪裴涂苗耿鲍费代车屈游阮祁时关喻"
    "仉缑逯亓逄昝麴郗佘苌郜笪蒯眭阙冼爨揭隗鞠仝晏桑牟储缪瞿岑冉边凌卜巫霍尚景党占谷乔卓池查凤华柏水窦云潘花酆鲍酆柴"
    "平和穆毕湛禹狄米贝明臧计谈茅舒阳蓝娄麻强危郭颖刁滕班仰秋仲伊宫仇栾暴厉戎祖武刘束幸司韶蓟薄印宿怀蒲邰从鄂索咸籍赖"
    "蔺屠蒙乌胥能苍双闻莘翟谭劳逄姬扶堵宰郦雍却璩濮寿通扈燕冀浦农别晋充慕茹习宦艾鱼容慎戈庾终暨居衡步都满弘匡国文寇广禄"
    "昌廉邬乐卞元闵席裘贲郁杭诸钮荀於惠芮桂郏冶邸郇翦谌鲜镡漆宛逢苑伦昌荣羊吉连阴家谌郇邸苑迟"
    "郎皮虞解应宗宣嵇曲封羿汲邴糜松弓牧宓蓬全钭易戚褚卫奚殳汝亢况郈督呙靳练木果洛盘檀区海"
    "东沃利蔚越夔隆师巩厍勾敖融冷訾辛阚那简饶空毋沙乜养须丰巢荆游竺权盖益桓公岳楚晁勾鄢涂钦商佴伯赏墨哈谯年爱佟言福苟"
    "麦朴禤褟仡隋辜尉忻昃侬扆戢斛庹旷矫丛"
    "敬蔡逮迟原由甄尧滑信锺邝栗敬冒粟母仵暴勇雒铁闪门但撒帅战衣初相矣肇禚鄞补綦户呼"
) - frozenset("由从与家")
# Surnames only where something speaks of a person: else they are words.
MORE_SURNAMES = frozenset(
    "官玄操过亏帖侍承千楼种招抗扎渠洑妥拜喇虎摆朵羽剪买脱零磨闭銮亚召刀岩玉波咪腊粘图启南片太寸么丑揣奉随律来智隽才圣鹿字火牙黑银英雪烟候次赤旺展訚钊支干仁里由有红香线凡辽漫修富归折锁回喜兀"
)
# Surnames that are everyday words: they begin a name only behind a label or before a title.
WORDS_FIRST = frozenset(
    "连阴井山红支经干富全海果木松皮和由从向与单时平明别能都通满相原补但但前初空双水国那利信越充年终门须权公言户强危班步查束计关代"
)
COMPOUND = frozenset(
    "欧阳 司马 诸葛 上官 皇甫 令狐 慕容 尉迟 澹台 东方 司徒 夏侯 公孙 轩辕 宇文 长孙 端木 独孤 南宫 西门 百里 呼延 "
    "闻人 赫连 钟离 濮阳 淳于 单于 太叔 申屠 仲孙 公冶 宗政 乐正 拓跋 第五 司空 司寇 漆雕 公羊 谷梁 左丘 东郭 南门 "
    "梁丘 微生 羊舌 万俟 闾丘 亓官 鲜于 完颜 纳兰 那拉 叶赫 爱新觉罗".split()
)
# Never in a person's name.
NOT_IN_NAMES = frozenset(
    "肺癌瘤咳嗽痰痛症炎病灶肿胸腔骨影检查诊术患者侧膜脉淋溃疡菌尿血肝肾胃肠脾胰颈腰腹脑眼耳鼻喉咽舌齿肌皮肤疹癣疮疖热烧寒冷"
    "喘闷悸晕吐泻麻痹瘫痪死伤损裂折破裂塌窄扩张狭缩萎厚薄密度低增减约见未无否不没有或及均但仅尚较与了的吗呢吧么这那哪谁我你他"
    "她它们说讯问答叫做被把将让给对从向往于因为所以如果虽然而且并且以及第次枚个只例号床位科室院楼层区段叶支气管道隔膈壁窗野带征"
    "型级期类型值量率比数据图像片序列帧扫描线束管钙囊结节网格条索斑片状团块实变积液渗出透亮毛玻璃磨性质态形边缘界清楚规则匀"
    "异常史药剂针抽化疗放射介入切除活复建议随访必要时请后前曾已行手服用吸呼屏平卧仰俯右左双两各全部细胞核酸副参受氏颤代缺扑氮醇酮毒癜霉虫钾刺肉孕疹酚烯菲绞痉"
) - frozenset("格平建清玉必放化时列规金光明行全两放然说对以如为建而亮野")
# Words before which a name has ended, or that a sentence about "患者" goes on with.
FUNCTION = frozenset(
    "因于曾来系在自诉行的男女有无未见不为是可已其此与和及或至从到前后上下左右入出住现既主经由向被将"
)
NOT_NAMES = frozenset(
    "高热 高烧 高危 高密 高度 高位 高龄 高原 高温 高频 高清 高血压 高血糖 高血脂 黄疸 黄斑 黄色 黄痰 黄染 白色 白肺 白痰 白斑 "
    "白天 毛刺 毛糙 毛发 毛玻璃 钱币 金属 金标 金黄 石膏 石棉 石灰 石化 段及 段性 左侧 左右 左方 左旋 左前 左后 方位 方形 方向 方法 方案 "
    "方可 余肺 余未 余处 余均 余部 余骨 任何 任意 任一 成人 成年 成分 成像 成形 成团 成角 于今 于前 于后 安全 安静 安置 安装 常规 常见 常有 常年 "
    "温度 温和 严重 严密 严格 万古 江段 向前 向后 向上 向下 向左 向右 平扫 平卧 平片 平静 平面 平均 平滑 平直 平稳 明显 明确 明亮 "
    "包块 包裹 包膜 包绕 包括 单发 单侧 单纯 单个 双侧 双肺 双发 时有 时间 时相 关节 关注 关系 车祸 项目 全身 全部 全程 全肺 "
    "代谢 代偿 和解 和右 和左 管壁 管状 管腔 管理 管径 路径 符合 计划 计数 计算 相仿 相似 相应 相关 原因 原发 原片 原有 由于 "
    "史密 史料 田野 马蹄 龙骨 熊猫 武装 水平 水肿 水样 花瓣 花环 云雾 米粒 米糊 贝壳 连续 强化 强烈 阳性 阴性 通畅 通气 满意 满布 "
    "能谱 能量 都有 补充 信号 国产 文献 广泛 东侧 利于 越来 充分 充盈 充填 师傅 年龄 年轻 终末 终止 步态 居中 容积 容量 容易 "
    "双下 双上 曾行 曾有 曾因 曾患 曾于 有限 夏季 秋季 冬季 春季 康复 华丽 成熟 成立 安放 温热 古老 鲁莽 齐整 盛行 章节 施行 施术 洪水 "
    "同意 已阅 不详 未知 本人 待定 如下 见上 正常 良好 签名 签字 盖章 电子 医师 医生 技师 主任 护士 审核 报告 男性 女性 不明 匿名 保密 无名 "
    "单位 单元 万分 万一 江苏 安徽 温州 金华 成都 石家 白细 左肺 余气 余支 季节 石骨 商量 方面 居住 步行 游走 谈话 权衡 沙粒 沙样 "
    "华法 安定 左氧 万托 高钾 白念 包虫 包涵 单抗 季肋 乐观 宁心 甘露 钟摆 尤文 葛根 殷红 庞贝 滕喜 梅毒 梅奥 霍乱 霍纳 霍奇 麻风 鲍曼 龙胆 施万 许旺 许莫 罗音 马凡 马方 高斯 "
    "戴维 戴口 范围 柯萨 柯兴 毛霉 温抗 宋内 桑椹 项背 颜面 顾虑 韦格 雷诺 郎格 皮样 果酱 成釉 成牙 成骨 江米 元素 元凶 元明 阳离 阴转 时差 路标 连枷 农夫 石末 桑蚕 花粉 柳氮 柳絮 龙葵 "
    "白内 白癜 白三 黄酮 黄体 黄曲 金刚 明胶 古典 古钱 童年 童脸 汤匙 康奈 甘草 甘油 宫外 房水 沙漏 沙门 尚好 尚清 尚通 尚均 尚规 冷冻 冷凝 国际 江汉 滑石 滑脱 越过 温哥 养分 终板 惠民 凤尾 "
    "郁金 苏醒 苏打 苏丹 夏令 谢恩 卓越 康达 席汉 席纹 席卷 车轮 车辐 贝赫 牛奶 鱼刺 鱼肉 蒲扇 艾滋 艾森 柴胡 桂枝 诸肋 诸多 漆酚 漆树 鲜红 鲜血 郁闭 廉价 惠普 宣布 荣枯 昌盛 吉兰 吉非 安维 安进 "
    "阿米巴 马尔堡 尼古丁 米诺 伊立 信息 信噪 初写 初步 初次 初诊 初审 初始 初治 初发 黄箭 红箭 白箭 成功 农民 农村 农业 籍贯 费用 母亲 父亲 通过 通风 通话 通知 通常 补登 车工 钳工 电工 焊工 瓦工 务农 经商 连续 连接 连于 阴影 阴性 阴囊 家族 家庭 家住 家人 荣誉 吉林 昌平 迟发 迟缓 苑区 湛江 杭州 车牌 肇事 司机 爱人 电子 应证 应激 应力 应变 易感 易患 易见 区域 区别 宣教 练习 曲霉 曲度 牧区 牧民 解释 解决 解痉 查房 查体 查见 查看 查阅 查找 查因 解放 海绵 高流 韩国 国籍 泰国 英国 法国 德国 金额 费用 费别 科室 科别 病区 单价 高年 高年资 包装 房间 房号 尹始 安保 方式 应用 应为 应予 解剖 解读 解除 易误 全科 全套 全麻 松解 曲线 海绵 果断 封闭 封堵 "
    "明天 明日 明晨 明早 明晚 明年 于我 于本 于外 于当 于上 于下 于左 于右 于两 于双 于各 成都 温岭 常州 常熟 金山 金坛 武汉 江阴 江门 江苏 安庆 安阳 万州 宁波 宁夏 广州 广东 广西 云南 河南 "
    "施行 全麻 从事 从前 常温 常住 左利 利手 平素 平时 平日 别处 时而 时常 终日 计有 关于 水银 但有 强直 强迫 麻醉 后再 特此 方表 黄韧 项韧 应规 方便 全程 安排 代为 代领 代取 代办 代述 代诉 代签 元月 于门 于明 贲门 单间 金葡 双方 麻烦 冷敷 冰敷 当班 能配 强撑 易疲 强撑 强忍 强撑 雪口 外来 务工 务农".split()
)
# A surname and two of GIVEN_ZH is a name even with nothing beside it; surnames that other words of
# reports hold are not among these.
PLAIN_SURNAMES = frozenset(
    "麦朴隋丛覃仝亓王李张刘陈杨赵吴周徐孙朱胡郭林罗郑梁谢宋唐许韩邓冯曹彭肖田董潘袁蔡蒋杜魏苏吕丁卢姚沈钟姜崔谭陆范汪廖韦贾夏傅付邹熊孟秦邱侯尹薛闫阎雷黎陶贺郝顾龚邵钱戴"
    "孔汤葛翁俞施樊洪庄殷倪芦童邢骆伍齐庞聂焦岳詹柯欧裴苗耿鲍费褚卫戚奚虞嵇尚储缪瞿岑冉卜霍党卓柏窦酆仇栾祝康阮祁佘郁冼涂祖蔺屠莘郦濮扈冀郏晏柴阙"
)
GIVEN_ZH = frozenset(
    "森蕙丰千允格贤伟芳娜敏静秀丽强磊洋勇艳杰娟涛超霞平刚桂英华建国文志玉兰红梅海燕云龙飞鹏宇浩轩子梓涵萱雨欣怡佳琪思晓东卫民福贵根生宝树林松凤珍莲芬琴萍蓉莉博睿昊皓煜懿彧"
    "翀垚淼焱骞珺妤瑾昱永康学德明亮光荣辉军斌波峰锋鑫洁倩颖雪琳婷慧玲莹璐瑶瑞祥庆忠义礼智仁诚善良春秋兵旭阳晨曦晖宁安邦远达顺旺富源江川岩峻恒昌盛兴隆泰谦逸凡"
    "振翔腾骏彪虎鹤鸿雁鸣诗书世成克力立天长少小大新正家俊俐俏倚健偲元先兆冠冬凯凌凡刘利剑力功加劲勤北卓南卿厚友发召可同君启咏哲唯善嘉园培基堂塔墨士声壮夏夕奇"
    "如妍妮妹姗姝姣婉婧婵媛嫣孝孟宏宗宜宝宣宪家寅寿尔尚岚岭岳峥嵘川巧己希帆帅常干庭延开弘弛张彤彦彩影徽心忆怀恩悦情惠意愉愿慈成扬承拓振挺政斐斯方旗日昆昌"
    "易星昭显晏晟景晴晶智曼曙月有朋朗望木本朝来松枫柏柔柯柳栋桃桐桦梁梦楠楚楷榕槐樱欢欧殿毅民水汉池沁沅沐沙沛河泉泓泽洁津洪洲流浚润涌淑清渊温湘源溪滢漫潇澄"
    "澜灵灿炎炜炳烁烨焕然照熙燕牧献玄玟玥珂珊珏珠班球理琛琦琬琰琼瑛瑜璇璋璟生申畅白百皎相真睦石硕磐礼祖祯祺禄福禹秉科秦积程稷空立章竹笑筠简箐粤素红纪纯绍经"
    "维绮绪缨罡翠翰耀联聪肃育胜胤能自至致臣良艺节芊芝芷芸芮芯苇苏苑苗若茂茗茜茵茹荔荷莎莘菁菊菡菲萌萧葆葵蒙蓓蓝蔓蔚蕊蕾薇虹虎蝶融行衡裕西言训诺谨谷贝贞贤赞"
    "越超跃路轶辰运进远迪逊通造道遥邦郁金钢钧钰铃铁铎铭银锐锦镇长闻阔阿陶雁雄雅雯霄霆霏霖霜露青靖鞠韬韵顺颂颜风飘香馨驰骁高魁鲁鲲鸥鸽鹃鹏麒麟黎黛齐龄才全超"
) - frozenset(
    "影心长石沙水肿温可同开发同流照真积空有相至致能自能经通道理白百漫声显行造运进言来本方日月联节情球科如大小干北南西东阔科融震育"
)
# Of these the names of other peoples are written: 扎西顿珠, 乌云其木格, 阿的阿呷.
TRANSCRIBED = frozenset(
    "阿艾安巴白班贝比别宾布才次措达丹旦当德的迪丁多顿尔法嘎噶格根古贡果哈海合胡呼吉加嘉江降杰卡凯康克肯库拉来兰勒力丽列林玲龙卢洛马玛麦曼茫梅蒙米莫木穆姆那纳娜"
    "乃尼宁努诺帕普其奇恰钦青琼曲仁日荣茹萨塞桑沙什史斯苏索塔泰坦特提图土吐托娃瓦汪旺维文乌西希夏辛旭亚雅央依伊益英尤玉孜堆扎则泽珍朱珠卓买热汗娅叶云呷仓群邓郎登贵"
)
VIETNAMESE = frozenset("阮黎陈范黄武邓裴胡吴杨李潘")  # 阮氏梅
TITLES = "先生 女士 小姐 同志 老师 医生 医师 大夫 主任 教授 护士 护师 技师 院长 博士 阿姨 大爷 老人 同学".split()
# Ends of words that stand before a title and are no surname there.
BEFORE_TITLE = frozenset(
    "代班 值班 当班 夜班 主任 责任 远程 主管 经管 检查 复查 首席 普查 抽查 继任 现任 上任 监管 家属 社区 病区 校区 厂区 院区 园区 牧区 战区".split()
)

PINYIN_SURNAMES = frozenset(
    "Wang Li Zhang Liu Chen Yang Huang Zhao Wu Zhou Xu Sun Ma Zhu Hu Guo He Lin Luo Gao Zheng Liang Xie Song Tang Han Deng Feng "
    "Cao Peng Zeng Xiao Tian Dong Pan Yuan Cai Jiang Yu Du Ye Cheng Wei Su Lyu Lu Lv Ding Ren Yao Shen Zhong Cui Tan Fan "
    "Liao Shi Jin Jia Xia Fu Fang Zou Xiong Bai Meng Qin Qiu Hou Yin Xue Yan Duan Lei Long Tao Mao Hao Gu Gong Shao Wan "
    "Qian Dai Mo Kong Xiang Chang Wen Zuo An Ouyang Sima Zhuge Shangguan Huangfu Linghu Murong Yuchi Tantai Dongfang "
    "Gou Qi Pang Zan Qu Xi She Da Kuai Sui Que Xian Cuan Jie Ju Tong Sang Mu Chu Miao Cen Ni Zhan Kang Niu Ge You Hong Mei "
    "Zhuang Bao Ruan Ji Guan Nie Jiao Yue Lan Yi Xing Ai Rao Geng Qiao Tu Pei".split()
)
# Pinyin syllables, for given names: "Sanfeng" is two of them, "Chest" is none.
_INITIALS = "b p m f d t n l g k h j q x zh ch sh r z c s y w".split()
_FINALS = "a o e i u v ai ei ui ao ou iu ie ue ve er an en in un vn ang eng ing ong ia ian iang iao iong ua uai uan uang uo".split()
SYLLABLES = frozenset(i + f for i in _INITIALS for f in _FINALS) | frozenset(
    "a o e ai ei ao ou an en ang eng er".split()
)
NOT_NAMES_EN = frozenset(
    "A An The This That There These And Or Of In On At By To For With From No Not Is Was Are He She It We Dr Mr Mrs Ms Prof MD RN PhD "
    "Male Female Unknown Supine Prone Position History Information Data Number Date Name Names Age Sex Gender ID Care Findings Impression "
    "Recommendation Conclusion Comparison Technique Indication Exam Examination Study CT MRI Chest Lung Lungs Right Left Upper Lower "
    "Middle Lobe Both Bilateral Patient Hospital Department Clinic Radiology Attending Resident Referring Physician Radiologist Signed "
    "Reported Reviewed Dictated Verified Normal Abnormal None See Please Phone Tel Email MRN DOB Accession Address Bed Passport Insurance "
    "Accession Small Moderate Large Solid Nodule Nodules Consolidation Emphysema Effusion Pneumothorax Pleural Heart Bones Airways I "
    "Hodgkin's January February March April June July August September October November December Monday Tuesday Wednesday Thursday Friday "
    "Saturday Sunday Time Report Status Final Preliminary Confirmed Electronically Service Ward Unit Results Case Image Images Series "
    "Registrar Consultant Radiographer Technologist Surgeon Provider Doctor Sister Brother Department Ordering Tech "
    "Dictating Reading Ordering Interpreting Reporting Requesting UID PID ICU ED ER OR MDT GP AI PACS RIS HIS HDU ITU A&E "
    "MBBS BMBS MBBCh MBChB FRANZCR FRCR FRCP FRCPC FRCS FACR FCCP MRCP MSc BSc MPH NP PA CNS Brother Sister "
    "NPI CHI GMC Forename Forenames Surname Surnames Given Practitioner Specialist NHS HKID UHID Fax Pager "
    "Slice Window Grade Stage Professor Prof Doctor Nurse Miss Sir Madam Med Rec Medical Record Chart Encounter Order Request Visit Account Policy Member Prior Scan File".split()
)
